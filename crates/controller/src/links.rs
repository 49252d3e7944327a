//! The links to the agents: who is there, what they say, and streams to them.

use crate::handle::{Controller, SubmitError};
use crate::secret::{Secret, hash_secret};
use spawnery_agent::link::{LinkError, Session, Stream, read_frame, write_frame};
use spawnery_cluster::{Command, Rejection, Reply, SecretHash};
use spawnery_model::{InstanceId, Name, NodeId, Orders};
use spawnery_wire::link::{
    ActivityReport, Down, Hello, Identity, LogFrame, LogStart, PROTOCOL_VERSION, RefusalKind,
    StreamReply, StreamRequest, Up, UsageReport, Welcome,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// Messages that wait to be sent to one agent. Beyond it they are dropped: what was not
/// acknowledged is sent again.
const ORDERS_WAITING_MAX: usize = 1024;

/// How long an agent may take to introduce itself before its connection is closed.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an agent may take to answer a request for a stream.
const STREAM_TIMEOUT: Duration = Duration::from_secs(30);

/// A stream to an instance could not be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamError {
    /// There is no such instance or process.
    #[error("{0}")]
    Unknown(String),
    /// The instance or process does not run.
    #[error("{0}")]
    NotRunning(String),
    /// The instance has no node yet.
    #[error("instance {instance} is not placed yet")]
    NotPlaced {
        /// The instance.
        instance: InstanceId,
    },
    /// There is no link to its node at the moment.
    #[error("node {node} cannot be reached at the moment")]
    NodeAway {
        /// The node.
        node: NodeId,
    },
    /// The node tried and failed, or the link broke.
    #[error("{0}")]
    Failed(String),
    /// The controller did not answer.
    #[error(transparent)]
    Controller(#[from] SubmitError),
}

impl From<LinkError> for StreamError {
    fn from(error: LinkError) -> StreamError {
        StreamError::Failed(error.to_string())
    }
}

#[derive(Debug)]
struct Link {
    /// Which of the links that this node has had.
    generation: u64,
    session: Session,
    orders: mpsc::Sender<Orders>,
}

/// All links that are up.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: Mutex<BTreeMap<NodeId, Link>>,
    generation: AtomicU64,
}

impl Links {
    pub(crate) fn new() -> Arc<Links> {
        Arc::default()
    }

    pub(crate) fn up(&self) -> u64 {
        self.links.lock().expect("no holder panics").len() as u64
    }

    /// Sends orders if the node is there. What is lost here is sent again.
    pub(crate) fn send(&self, node: NodeId, orders: Orders) {
        let links = self.links.lock().expect("no holder panics");
        if let Some(link) = links.get(&node) {
            let _ = link.orders.try_send(orders);
        }
    }

    /// All links, by node.
    pub(crate) fn sessions(&self) -> Vec<(NodeId, Session)> {
        let links = self.links.lock().expect("no holder panics");
        links.iter().map(|(node, link)| (*node, link.session.clone())).collect()
    }

    pub(crate) fn session(&self, node: NodeId) -> Option<Session> {
        let links = self.links.lock().expect("no holder panics");
        links.get(&node).map(|link| link.session.clone())
    }

    fn add(&self, node: NodeId, session: Session, orders: mpsc::Sender<Orders>) -> u64 {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        let link = Link { generation, session, orders };
        self.links.lock().expect("no holder panics").insert(node, link);
        generation
    }

    fn remove(&self, node: NodeId, generation: u64) {
        let mut links = self.links.lock().expect("no holder panics");
        if links.get(&node).is_some_and(|link| link.generation == generation) {
            links.remove(&node);
        }
    }
}

impl Controller {
    /// Serves an agent on a connection that it opened, until the connection ends.
    pub async fn serve_link<T>(&self, io: T)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (session, mut incoming) = Session::server(io);
        let greeted = tokio::time::timeout(HELLO_TIMEOUT, async {
            let mut stream = incoming.recv().await?;
            let hello = read_frame::<Hello, _>(&mut stream).await.ok()?;
            Some((stream, hello))
        });
        let Ok(Some((mut stream, hello))) = greeted.await else {
            return tracing::debug!("an agent connected and said nothing");
        };
        let welcome = self.welcome(hello).await;
        if write_frame(&mut stream, &welcome).await.is_err() {
            return;
        }
        match welcome {
            Welcome::Accepted { node, .. } => {
                self.exchange(node, session, stream, incoming).await;
            }
            Welcome::Refused { reason, .. } => tracing::warn!("an agent was refused: {reason}"),
        }
    }

    async fn welcome(&self, hello: Hello) -> Welcome {
        if hello.protocol != PROTOCOL_VERSION {
            let reason = format!(
                "the agent speaks version {} of the link protocol and the server version \
                 {PROTOCOL_VERSION}: run the same release of Spawnery on both",
                hello.protocol
            );
            return Welcome::Refused { reason, forever: true };
        }
        match hello.identity {
            Identity::Joining { token, name } => self.join(&token, name).await,
            Identity::Node { node, credential } => self.recognise(node, &credential).await,
        }
    }

    async fn join(&self, token: &str, name: Name) -> Welcome {
        let credential = Secret::generate();
        let command =
            Command::Join { token: hash_secret(token), name, credential: credential.hash() };
        match self.submit(command, None).await {
            Ok(Reply::Joined(node)) => {
                Welcome::Accepted { node, credential: Some(credential.reveal().to_owned()) }
            }
            Ok(_) => unreachable!("joining is answered with a node"),
            Err(error) => {
                let forever = matches!(
                    error,
                    SubmitError::Rejected(
                        Rejection::JoinTokenInvalid | Rejection::NodeNameTaken { .. }
                    )
                );
                Welcome::Refused { reason: error.to_string(), forever }
            }
        }
    }

    async fn recognise(&self, node: NodeId, credential: &str) -> Welcome {
        let shown = hash_secret(credential);
        let known = self.query(move |state| state.node(node).map(|entry| entry.credential)).await;
        match known {
            Ok(Some(expected)) if same(&shown, &expected) => {
                Welcome::Accepted { node, credential: None }
            }
            Ok(_) => {
                let reason = "the server does not know this node: it was removed, or belongs to \
                              another server; remove its node.json and join again"
                    .to_owned();
                Welcome::Refused { reason, forever: true }
            }
            Err(error) => Welcome::Refused { reason: error.to_string(), forever: false },
        }
    }

    /// Exchanges reports and orders until the link ends.
    async fn exchange(
        &self,
        node: NodeId,
        session: Session,
        stream: Stream,
        incoming: mpsc::Receiver<Stream>,
    ) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (orders, mut orders_out) = mpsc::channel(ORDERS_WAITING_MAX);
        let generation = self.links().add(node, session, orders);
        tracing::info!("node {node} is linked");
        let send = async {
            while let Some(orders) = orders_out.recv().await {
                let down = Down::Orders(Box::new(orders));
                if write_frame(&mut writer, &down).await.is_err() {
                    return;
                }
            }
        };
        let receive = async {
            while let Ok(Up::Report(report)) = read_frame(&mut reader).await {
                // An agent speaks for its own node only.
                if report.node != node {
                    return tracing::warn!("node {node} spoke for node {}", report.node);
                }
                self.report(*report);
            }
        };
        tokio::select! {
            () = send => {}
            () = receive => {}
            () = self.serve_requests(node, incoming) => {}
        }
        self.links().remove(node, generation);
        tracing::info!("the link to node {node} ended");
    }

    /// Opens a stream to the node of an instance. A refusal of the node is an error here.
    pub async fn open(
        &self,
        instance: InstanceId,
        request: StreamRequest,
    ) -> Result<(StreamReply, Stream), StreamError> {
        let node = self.node_of(instance).await?.ok_or(StreamError::NotPlaced { instance })?;
        self.open_on(node, request).await
    }

    /// Opens a stream to a node. A refusal of the node is an error here.
    pub(crate) async fn open_on(
        &self,
        node: NodeId,
        request: StreamRequest,
    ) -> Result<(StreamReply, Stream), StreamError> {
        let session = self.links().session(node).ok_or(StreamError::NodeAway { node })?;
        let opened = tokio::time::timeout(STREAM_TIMEOUT, async {
            let mut stream = session.open().await?;
            write_frame(&mut stream, &request).await?;
            let reply = read_frame::<StreamReply, _>(&mut stream).await?;
            Ok::<_, LinkError>((reply, stream))
        });
        let (reply, stream) = opened.await.map_err(|_| StreamError::NodeAway { node })??;
        match reply {
            StreamReply::Refused { kind, reason } => Err(match kind {
                RefusalKind::Unknown => StreamError::Unknown(reason),
                RefusalKind::NotRunning => StreamError::NotRunning(reason),
                RefusalKind::Failed => StreamError::Failed(reason),
            }),
            reply => Ok((reply, stream)),
        }
    }

    /// Reads the output of a process.
    pub async fn logs(
        &self,
        instance: InstanceId,
        process: u32,
        start: LogStart,
        follow: bool,
    ) -> Result<LogStream, StreamError> {
        let node = self.node_of(instance).await?.ok_or(StreamError::NotPlaced { instance })?;
        self.logs_on(node, instance, process, start, follow).await
    }

    /// The same for whoever knows the node of the instance.
    pub async fn logs_on(
        &self,
        node: NodeId,
        instance: InstanceId,
        process: u32,
        start: LogStart,
        follow: bool,
    ) -> Result<LogStream, StreamError> {
        let request = StreamRequest::Logs { instance, process, start, follow };
        let (_, stream) = self.open_on(node, request).await?;
        Ok(LogStream { stream, done: false })
    }

    /// What an instance uses now, as its node sees it.
    pub async fn usage(&self, instance: InstanceId) -> Result<UsageReport, StreamError> {
        let node = self.node_of(instance).await?.ok_or(StreamError::NotPlaced { instance })?;
        self.ask(node, StreamRequest::Usage { instance }).await
    }

    /// What goes on in an instance that no request shows, as its node sees it.
    pub async fn activity_of(&self, instance: InstanceId) -> Result<ActivityReport, StreamError> {
        let node = self.node_of(instance).await?.ok_or(StreamError::NotPlaced { instance })?;
        self.ask(node, StreamRequest::Activity { instance }).await
    }

    /// Connects to a port inside an instance.
    pub async fn dial(&self, instance: InstanceId, port: u16) -> Result<Stream, StreamError> {
        let (_, stream) = self.open(instance, StreamRequest::Dial { instance, port }).await?;
        Ok(stream)
    }
}

/// Compares without telling by its time how much is equal.
fn same(a: &SecretHash, b: &SecretHash) -> bool {
    a.0.iter().zip(&b.0).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// The output of a process, in order.
#[derive(Debug)]
pub struct LogStream {
    stream: Stream,
    done: bool,
}

impl LogStream {
    /// The next piece. The last one is [`LogFrame::Exited`] or [`LogFrame::End`]; after it, and
    /// after an error, there is nothing more.
    pub async fn next(&mut self) -> Option<Result<LogFrame, StreamError>> {
        if self.done {
            return None;
        }
        let frame = read_frame::<LogFrame, _>(&mut self.stream).await;
        self.done = matches!(frame, Err(_) | Ok(LogFrame::Exited { .. } | LogFrame::End));
        Some(frame.map_err(StreamError::from))
    }

    /// The same as a [`futures::Stream`].
    pub fn into_stream(self) -> impl futures::Stream<Item = Result<LogFrame, StreamError>> {
        futures::stream::unfold(self, |mut logs| async move {
            let item = logs.next().await?;
            Some((item, logs))
        })
    }
}
