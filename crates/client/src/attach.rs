//! Being attached to a process.

use crate::client::{Client, Socket};
use crate::error::ClientError;
use crate::query::Target;
use crate::stream::{PAUSE_MAX, PAUSE_MIN, RECONNECT_WITHIN};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use spawnery_wire::api::{
    AttachInput, AttachNews, AttachedOutput, ExitedView, GapView, TerminalSize,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

/// Pieces of input, and of output, that wait for the other side. Beyond it, whoever makes them
/// waits.
const WAITING_MAX: usize = 64;

/// What an attached process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachItem {
    /// It wrote something.
    Output(AttachedOutput),
    /// Output is gone, because its log reached its limit.
    Gap(GapView),
    /// What was written could not be passed on, for this reason; output goes on.
    InputClosed(String),
    /// It has ended, and this was all. The last item.
    Exited(ExitedView),
}

/// What is done to an attached process.
#[derive(Debug)]
enum Deed {
    Write(Vec<u8>),
    Steer(AttachInput),
}

/// A process that one is attached to. Dropping it detaches, and the process goes on.
#[derive(Debug)]
pub struct Attachment {
    deeds: mpsc::Sender<Deed>,
    items: mpsc::Receiver<Result<AttachItem, ClientError>>,
    /// The sequence number of the next piece of output.
    next: u64,
    worker: JoinHandle<()>,
}

impl Attachment {
    pub(crate) fn new(client: Client, target: Target, from: u64) -> Attachment {
        let (deeds, deeds_out) = mpsc::channel(WAITING_MAX);
        let (items_in, items) = mpsc::channel(WAITING_MAX);
        let next = from.max(1);
        let worker = Worker { client, target, next, size: None };
        let worker = tokio::spawn(worker.run(deeds_out, items_in));
        Attachment { deeds, items, next, worker }
    }

    /// The next thing that it does; none after the last. May be dropped and called again: nothing
    /// is lost.
    pub async fn next(&mut self) -> Result<Option<AttachItem>, ClientError> {
        let item = self.items.recv().await.transpose()?;
        match &item {
            Some(AttachItem::Output(output)) => self.next = output.sequence + 1,
            Some(AttachItem::Gap(gap)) => self.next = gap.to + 1,
            _ => {}
        }
        Ok(item)
    }

    /// The sequence number from which on output was not given out yet.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// A way to write, for another task.
    pub fn input(&self) -> AttachedInput {
        AttachedInput { deeds: self.deeds.clone() }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

/// The way to a process that one is attached to. What is under way when a connection breaks may be
/// lost; whatever is passed on, is passed on once and in order.
#[derive(Debug, Clone)]
pub struct AttachedInput {
    deeds: mpsc::Sender<Deed>,
}

impl AttachedInput {
    /// Writes to its standard input, or types into its terminal. False if nobody is attached any
    /// more. Waits while the process does not read.
    pub async fn write(&self, bytes: Vec<u8>) -> bool {
        self.deeds.send(Deed::Write(bytes)).await.is_ok()
    }

    /// Changes its terminal's size, closes its input, or sends it a signal.
    pub async fn steer(&self, input: AttachInput) -> bool {
        self.deeds.send(Deed::Steer(input)).await.is_ok()
    }
}

/// Keeps a connection.
struct Worker {
    client: Client,
    target: Target,
    /// The sequence number to go on with.
    next: u64,
    /// The terminal's size, to be told again after a reconnection.
    size: Option<TerminalSize>,
}

type Items = mpsc::Sender<Result<AttachItem, ClientError>>;

impl Worker {
    async fn run(mut self, mut deeds: mpsc::Receiver<Deed>, items: Items) {
        let (mut broken_since, mut pause, mut was_connected) = (None, PAUSE_MIN, false);
        loop {
            let target = self.target.clone().query("from", Some(self.next));
            let error = match self.client.open_socket(&target).await {
                Ok(socket) => {
                    (broken_since, pause, was_connected) = (None, PAUSE_MIN, true);
                    match self.serve(socket, &mut deeds, &items).await {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            let since: Instant = *broken_since.get_or_insert_with(Instant::now);
            let is_of_use = was_connected && error.is_passing();
            if !is_of_use || since.elapsed() >= RECONNECT_WITHIN {
                let _ = items.send(Err(error)).await;
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Carries items and deeds until the process has ended, or nobody wants to know.
    async fn serve(
        &mut self,
        socket: Socket,
        deeds: &mut mpsc::Receiver<Deed>,
        items: &Items,
    ) -> Result<(), ClientError> {
        let client = self.client.clone();
        let (sink, stream) = socket.split();
        tokio::select! {
            result = read(&client, &mut self.next, stream, items) => result,
            result = write(&client, &mut self.size, sink, deeds) => result,
            () = items.closed() => Ok(()),
        }
    }
}

async fn read(
    client: &Client,
    next: &mut u64,
    mut stream: SplitStream<Socket>,
    items: &Items,
) -> Result<(), ClientError> {
    loop {
        let message = stream.next().await.transpose().map_err(|error| client.broken(&error))?;
        let item = match message {
            Some(Message::Binary(bytes)) => {
                let Some(output) = AttachedOutput::decode(&bytes) else {
                    return Err(client.protocol("a message is no output"));
                };
                if output.sequence < *next {
                    continue;
                }
                *next = output.sequence + 1;
                AttachItem::Output(output)
            }
            Some(Message::Text(text)) => match serde_json::from_str(&text) {
                Ok(AttachNews::Gap(gap)) => {
                    *next = gap.to + 1;
                    AttachItem::Gap(gap)
                }
                Ok(AttachNews::InputClosed { reason }) => AttachItem::InputClosed(reason),
                Ok(AttachNews::Exited(exited)) => {
                    let _ = items.send(Ok(AttachItem::Exited(exited))).await;
                    return Ok(());
                }
                Ok(AttachNews::Problem(problem)) => {
                    return Err(ClientError::Problem(Box::new(problem)));
                }
                Err(error) => return Err(client.protocol(error)),
            },
            Some(Message::Close(_)) | None => {
                let ended = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(client.broken(&ended));
            }
            Some(_) => continue,
        };
        if items.send(Ok(item)).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    client: &Client,
    size: &mut Option<TerminalSize>,
    mut sink: SplitSink<Socket, Message>,
    deeds: &mut mpsc::Receiver<Deed>,
) -> Result<(), ClientError> {
    let broken = |error| client.broken(&error);
    if let Some(TerminalSize { columns, rows }) = *size {
        sink.send(text(&AttachInput::Resize { columns, rows })).await.map_err(broken)?;
    }
    while let Some(deed) = deeds.recv().await {
        let message = match deed {
            Deed::Write(bytes) => Message::Binary(bytes.into()),
            Deed::Steer(input) => {
                if let AttachInput::Resize { columns, rows } = input {
                    *size = Some(TerminalSize { columns, rows });
                }
                text(&input)
            }
        };
        sink.send(message).await.map_err(broken)?;
    }
    // Nobody writes any more, but output goes on.
    std::future::pending().await
}

fn text(input: &AttachInput) -> Message {
    let json = serde_json::to_string(input).expect("it has words and numbers only");
    Message::Text(json.into())
}
