//! Being attached to a process, over a WebSocket (RFC 6455).

use crate::app::App;
use crate::asker::{Asker, denied};
use crate::failure::{Answer, Failure, code};
use crate::follower::{Follower, News, Wanted};
use crate::limits::{ATTACH_MESSAGE_BYTES_MAX, HEARTBEAT};
use crate::parameters::Parameters;
use crate::processes::{self, SIGNALS};
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use spawnery_controller::{InputRefusal, InputSender};
use spawnery_model::InstanceId;
use spawnery_wire::api::{AttachInput, AttachNews, AttachedOutput, TerminalSize};
use spawnery_wire::link::{InputFrame, LogStart, StreamRequest};
use std::time::Duration;
use tokio::sync::mpsc;
use utoipa::IntoParams;

/// Remarks about input that wait to be sent. There is one at most for each attached client.
const REMARKS_MAX: usize = 1;

/// How long telling a client that its token was revoked may take.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);

/// From where to attach.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AttachParameters {
    /// The sequence number of the first piece of output that is wanted: one more than the last that
    /// was seen. From the beginning, when it is left out.
    #[serde(default)]
    from: u64,
}

/// Attaches to a process of a session: a WebSocket that carries its output, and what is typed.
///
/// Binary messages of the server are output: a byte (1 for standard output and terminals, 2 for
/// standard error), the sequence number in eight bytes, the most significant first, and the bytes.
/// Its text messages are `AttachNews`. Binary messages of the client are input, as it is; its text
/// messages are `AttachInput`. The connection may end at any time without the process: attach again
/// with `from`, and nothing is missed or repeated. Several clients may be attached at once.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/processes/{process}/attach", tag = "sessions",
    params(
        ("id" = String, Path, description = "The session's id, or its first four characters or more"),
        ("process" = u32, Path, description = "The process: 0 is the main one"),
        AttachParameters,
    ),
    responses((status = 101, description = "The protocol is WebSocket from here on; each text message of the server is an AttachNews",
        body = AttachNews)),
)]
pub(crate) async fn attach_to_session(
    State(app): State<App>,
    asker: Asker,
    Path((id, process)): Path<(String, u32)>,
    Parameters(parameters): Parameters<AttachParameters>,
    uri: Uri,
    upgrade: WebSocketUpgrade,
) -> Answer<Response> {
    let session = processes::session(&app, id, &asker).await?;
    attach(app, asker, (session, process), parameters, &uri, upgrade).await
}

/// Attaches to a process of an instance: a WebSocket that carries its output, and what is typed.
///
/// See the same for sessions.
#[utoipa::path(
    get, path = "/v1/instances/{id}/processes/{process}/attach", tag = "instances",
    params(
        ("id" = String, Path, description = "The instance's id, or its first four characters or more"),
        ("process" = u32, Path, description = "The process: 0 is the main one"),
        AttachParameters,
    ),
    responses((status = 101, description = "The protocol is WebSocket from here on; each text message of the server is an AttachNews",
        body = AttachNews)),
)]
pub(crate) async fn attach_to_instance(
    State(app): State<App>,
    asker: Asker,
    Path((id, process)): Path<(String, u32)>,
    Parameters(parameters): Parameters<AttachParameters>,
    uri: Uri,
    upgrade: WebSocketUpgrade,
) -> Answer<Response> {
    let instance = processes::instance(&app, id, &asker).await?;
    attach(app, asker, (instance, process), parameters, &uri, upgrade).await
}

async fn attach(
    app: App,
    asker: Asker,
    (instance, process): (InstanceId, u32),
    parameters: AttachParameters,
    uri: &Uri,
    upgrade: WebSocketUpgrade,
) -> Answer<Response> {
    let permit = app.stream_permit()?;
    processes::until_started(&app, instance).await?;
    if process != 0 {
        // Told before the upgrade, where an error has a status.
        let found = app.controller.processes(instance).await?;
        if !found.iter().any(|found| found.process == process) {
            let detail = format!("{instance} has no process {process}");
            let hint = format!("GET /v1/instances/{instance}/processes lists them");
            return Err(Failure::new(code::PROCESS_UNKNOWN, detail).hint(hint));
        }
    }
    let path = uri.path().to_owned();
    let start = LogStart::Sequence(parameters.from.max(1));
    let wanted = Wanted { instance, process, start, follow: true, path };
    let upgrade =
        upgrade.max_message_size(ATTACH_MESSAGE_BYTES_MAX).max_frame_size(ATTACH_MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let stopping = app.config.stopping.clone();
        tokio::select! {
            () = serve(app, asker, wanted, socket) => {}
            () = stopping.stopped() => {}
        }
        drop(permit);
    }))
}

async fn serve(app: App, asker: Asker, wanted: Wanted, socket: WebSocket) {
    let (path, revoked) = (wanted.path.clone(), app.revoked(&asker));
    let (mut sink, messages) = socket.split();
    let (remarks_in, remarks) = mpsc::channel(REMARKS_MAX);
    let typing = Typing {
        app: app.clone(),
        instance: wanted.instance,
        process: wanted.process,
        input: None,
        remarks: remarks_in,
    };
    // What is typed must not wait for output, nor output for a process that does not read.
    let reason = tokio::select! {
        () = tell(Follower::new(app, wanted), remarks, &mut sink) => return,
        () = typing.pass_on(messages) => return,
        reason = revoked => reason,
    };
    // A client that does not read is not waited for.
    let farewell = async {
        let problem = denied(&reason).into_problem(&path);
        sink.send(text(&AttachNews::Problem(problem))).await?;
        let end = CloseFrame { code: close_code::POLICY, reason: reason.to_string().into() };
        sink.send(Message::Close(Some(end))).await
    };
    let _ = tokio::time::timeout(FAREWELL_TIME_MAX, farewell).await;
}

/// Sends what happens until the process has ended, or nobody listens.
async fn tell(
    mut follower: Follower,
    mut remarks: mpsc::Receiver<AttachNews>,
    sink: &mut SplitSink<WebSocket, Message>,
) {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.reset();
    loop {
        let message = tokio::select! {
            news = follower.next() => match news.and_then(message) {
                Some(message) => message,
                None => break,
            },
            Some(remark) = remarks.recv() => text(&remark),
            _ = heartbeat.tick() => Message::Ping(Default::default()),
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
    let end = CloseFrame { code: close_code::NORMAL, reason: Default::default() };
    let _ = sink.send(Message::Close(Some(end))).await;
    let _ = sink.close().await;
}

/// None after the last piece of news.
fn message(news: News) -> Option<Message> {
    Some(match news {
        News::Output { sequence, stream, bytes, .. } => {
            Message::Binary(AttachedOutput { stream, sequence, bytes }.encode().into())
        }
        News::Gap(gap) => text(&AttachNews::Gap(gap)),
        News::Exited(exited) => text(&AttachNews::Exited(exited)),
        News::Problem(problem) => text(&AttachNews::Problem(problem)),
        News::End => return None,
    })
}

fn text(news: &AttachNews) -> Message {
    let json = serde_json::to_string(news).expect("views have text and numbers only");
    Message::Text(json.into())
}

/// Passes on what a client does.
struct Typing {
    app: App,
    instance: InstanceId,
    process: u32,
    /// The way to the process, once it was needed.
    input: Option<InputSender>,
    remarks: mpsc::Sender<AttachNews>,
}

impl Typing {
    /// Until the client has gone.
    async fn pass_on(mut self, mut messages: SplitStream<WebSocket>) {
        while let Some(Ok(message)) = messages.next().await {
            let done = match message {
                Message::Binary(bytes) => self.send(InputFrame::Bytes(bytes.into())).await,
                Message::Text(text) => match serde_json::from_str(&text) {
                    Ok(input) => self.steer(input).await,
                    Err(error) => Err(format!("a message is not understood: {error}")),
                },
                Message::Ping(_) | Message::Pong(_) => Ok(()),
                Message::Close(_) => return,
            };
            if let Err(reason) = done {
                // One that waits already says enough.
                let _ = self.remarks.try_send(AttachNews::InputClosed { reason });
            }
        }
    }

    async fn steer(&mut self, input: AttachInput) -> Result<(), String> {
        match input {
            AttachInput::Resize { columns: 0, .. } | AttachInput::Resize { rows: 0, .. } => {
                Err("a terminal has at least one column and one row".to_owned())
            }
            AttachInput::Resize { columns, rows } => {
                self.send(InputFrame::Resize(TerminalSize { columns, rows })).await
            }
            AttachInput::End => self.send(InputFrame::End).await,
            AttachInput::Signal { signal } if !SIGNALS.contains(&signal) => {
                Err(format!("{signal} is no signal: 1 to 64"))
            }
            AttachInput::Signal { signal } => {
                let (instance, process) = (self.instance, self.process);
                let request = StreamRequest::Signal { instance, process, signal };
                let sent = self.app.controller.open(instance, request).await;
                sent.map(drop).map_err(|error| error.to_string())
            }
        }
    }

    async fn send(&mut self, frame: InputFrame) -> Result<(), String> {
        let mut sender = match self.input.take() {
            Some(sender) => sender,
            None => self.open().await?,
        };
        sender.send(&frame).await.map_err(|error| error.to_string())?;
        self.input = Some(sender);
        Ok(())
    }

    async fn open(&self) -> Result<InputSender, String> {
        let opened = self.app.controller.input(self.instance, self.process).await;
        let (sender, refusal) = opened.map_err(|error| error.to_string())?.split();
        tokio::spawn(remark(refusal, self.remarks.clone()));
        Ok(sender)
    }
}

/// Tells why nothing more is taken, unless nobody is attached any more.
async fn remark(refusal: InputRefusal, remarks: mpsc::Sender<AttachNews>) {
    tokio::select! {
        reason = refusal.reason() => {
            let _ = remarks.try_send(AttachNews::InputClosed { reason });
        }
        () = remarks.closed() => {}
    }
}
