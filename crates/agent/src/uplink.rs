//! The task that keeps the link to the controller.

use crate::agent::AgentError;
use crate::connect::Connect;
use crate::driver::Input;
use crate::identity::SavedIdentity;
use crate::link::{LinkError, Session, Stream, read_frame, write_frame};
use crate::streams::Streams;
use spawnery_model::{NodeId, Report, limits};
use spawnery_node::Input as NodeInput;
use spawnery_wire::link::{Down, Hello, Identity, PROTOCOL_VERSION, Up, Welcome};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// How long a connection may take to be opened and welcomed.
const GREETING_WITHIN: Duration = Duration::from_secs(10);

/// How long the controller may be silent. It answers each report, and there is one each
/// heartbeat; when a whole lease passes without a word, the link is dead.
const SILENCE_MAX: Duration = Duration::from_millis(limits::LEASE.0);

/// Before the second try to reach the controller; doubled for each further one.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The longest that it grows to: a fleet of thousands must not storm a controller that comes back,
/// and a node must be back within its lease.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(10);

/// Reports that wait to be written: a burst of starts makes one for each change. Further ones are
/// dropped, and what they said is said again later.
const REPORTS_WAITING_MAX: usize = 1024;

/// Keeps the link.
pub(crate) struct Uplink {
    connector: Arc<dyn Connect>,
    identity: SavedIdentity,
    inputs: mpsc::Sender<Input>,
    streams: Streams,
    /// For those who open streams to the controller.
    session: watch::Sender<Option<Session>>,
}

/// A link over which the controller has welcomed this node.
pub(crate) struct Greeted {
    pub(crate) node: NodeId,
    pub(crate) credential: Option<String>,
    stream: Stream,
    incoming: mpsc::Receiver<Stream>,
    /// Its end closes the connection.
    session: Session,
}

/// There is no link.
#[derive(Debug)]
pub(crate) enum GreetError {
    /// The controller does not want it.
    Refused { reason: String, forever: bool },
    /// Something between here and the controller failed.
    Link { reason: String },
}

impl Uplink {
    pub(crate) fn new(
        connector: Arc<dyn Connect>,
        identity: SavedIdentity,
        inputs: mpsc::Sender<Input>,
        streams: Streams,
        session: watch::Sender<Option<Session>>,
    ) -> Uplink {
        Uplink { connector, identity, inputs, streams, session }
    }

    /// Runs until the controller refuses this node for ever.
    pub(crate) async fn run(self) -> AgentError {
        let mut delay = RETRY_DELAY;
        loop {
            let SavedIdentity { node, ref credential, .. } = self.identity;
            let identity = Identity::Node { node, credential: credential.clone() };
            match greet(&*self.connector, identity).await {
                Ok(greeted) => {
                    delay = RETRY_DELAY;
                    tracing::info!(%node, "linked to the controller");
                    let error = self.serve(greeted).await;
                    tracing::warn!(%error, "the link to the controller ended");
                }
                Err(GreetError::Refused { reason, forever: true }) => {
                    tracing::error!(reason, "the controller refuses this node for ever");
                    return AgentError::Refused { reason };
                }
                Err(GreetError::Refused { reason, forever: false }) => {
                    tracing::warn!(reason, "the controller refuses this node for now");
                }
                Err(GreetError::Link { reason }) => {
                    tracing::warn!(reason, "the controller cannot be reached");
                }
            }
            tokio::time::sleep(jittered(delay)).await;
            delay = (delay * 2).min(RETRY_DELAY_MAX);
        }
    }

    /// Serves one link until it ends.
    async fn serve(&self, greeted: Greeted) -> LinkError {
        let Greeted { stream, mut incoming, session, .. } = greeted;
        let (reader, writer) = tokio::io::split(stream);
        let (reports, reports_out) = mpsc::channel(REPORTS_WAITING_MAX);
        // The driver lives as long as the agent does.
        self.session.send_replace(Some(session.clone()));
        let _ = self.inputs.send(Input::LinkUp(reports)).await;
        let error = tokio::select! {
            error = self.read_orders(reader) => error,
            error = write_reports(writer, reports_out) => error,
            () = self.accept(&mut incoming) => LinkError::Closed,
        };
        self.session.send_replace(None);
        let _ = self.inputs.send(Input::Node(NodeInput::LinkDown)).await;
        drop(session);
        error
    }

    async fn read_orders(&self, mut reader: impl AsyncRead + Unpin) -> LinkError {
        loop {
            let read = tokio::time::timeout(SILENCE_MAX, read_frame(&mut reader)).await;
            let orders = match read {
                Ok(Ok(Down::Orders(orders))) => orders,
                Ok(Err(error)) => return error,
                Err(_) => {
                    let silent = "the controller said nothing for a whole lease";
                    return io::Error::new(io::ErrorKind::TimedOut, silent).into();
                }
            };
            let _ = self.inputs.send(Input::Node(NodeInput::Orders(orders))).await;
        }
    }

    /// Serves the streams that the controller opens, each in a task that ends with the link.
    async fn accept(&self, incoming: &mut mpsc::Receiver<Stream>) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                stream = incoming.recv() => match stream {
                    Some(stream) => _ = tasks.spawn(self.streams.clone().serve(stream)),
                    None => return,
                },
                Some(done) = tasks.join_next(), if !tasks.is_empty() => {
                    if let Err(error) = done {
                        tracing::error!(%error, "a stream's task failed");
                    }
                }
            }
        }
    }
}

async fn write_reports(
    mut writer: impl AsyncWrite + Unpin,
    mut reports: mpsc::Receiver<Box<Report>>,
) -> LinkError {
    while let Some(report) = reports.recv().await {
        if let Err(error) = write_frame(&mut writer, &Up::Report(report)).await {
            return error;
        }
    }
    LinkError::Closed
}

/// Opens a connection and introduces this node on its first stream.
pub(crate) async fn greet(
    connector: &dyn Connect,
    identity: Identity,
) -> Result<Greeted, GreetError> {
    let greeting = tokio::time::timeout(GREETING_WITHIN, introduce(connector, identity));
    let link = |reason| GreetError::Link { reason };
    let greeting = greeting.await.map_err(|_| link("no answer in time".to_owned()))?;
    let (welcome, stream, incoming, session) = greeting.map_err(|error| link(error.to_string()))?;
    match welcome {
        Welcome::Accepted { node, credential } => {
            Ok(Greeted { node, credential, stream, incoming, session })
        }
        Welcome::Refused { reason, forever } => Err(GreetError::Refused { reason, forever }),
    }
}

async fn introduce(
    connector: &dyn Connect,
    identity: Identity,
) -> Result<(Welcome, Stream, mpsc::Receiver<Stream>, Session), LinkError> {
    let connection = connector.connect().await?;
    let (session, incoming) = Session::client(connection);
    let mut stream = session.open().await?;
    let hello = Hello { protocol: PROTOCOL_VERSION, identity };
    write_frame(&mut stream, &hello).await?;
    let welcome = read_frame(&mut stream).await?;
    Ok((welcome, stream, incoming, session))
}

/// Between half of `delay` and all of it, so that nodes that lost their controller together do not
/// come back together.
fn jittered(delay: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness there is no jitter, which is a lesser evil than no retry.
    let share = getrandom::fill(&mut random).map_or(0, |()| u32::from(u16::from_le_bytes(random)));
    delay / 2 + (delay / 2).mul_f64(f64::from(share) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_half_and_all() {
        for _ in 0..100 {
            let delay = jittered(RETRY_DELAY_MAX);
            assert!(delay >= RETRY_DELAY_MAX / 2 && delay <= RETRY_DELAY_MAX, "{delay:?}");
        }
    }
}
