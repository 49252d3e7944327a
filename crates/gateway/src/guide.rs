//! What the protocol engine asks of the one who knows where requests go.

use crate::answer::Answer;
use crate::h1::head::RequestHead;
use crate::headers::Peer;
use crate::io::UpstreamIo;
use crate::refusal::Refusal;
use spawnery_model::InstanceId;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

/// Something that is not known at once.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A port of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The instance.
    pub instance: InstanceId,
    /// The port that it listens on.
    pub port: u16,
}

/// A request whose way is to be decided.
pub struct Ask<'a> {
    /// Its head.
    pub head: &'a RequestHead,
    pub(crate) peer: &'a Peer,
}

impl Ask<'_> {
    /// Where it comes from.
    pub fn peer(&self) -> SocketAddr {
        self.peer.address
    }

    /// `http` or `https`, as its client sees it.
    pub fn scheme(&self) -> &str {
        self.peer.scheme(self.head)
    }
}

/// Where a request goes.
pub enum Decision {
    /// To the API.
    Api,
    /// To an instance.
    Forward(Forward),
    /// Nowhere: this is the answer.
    Answer(Answer),
    /// It is not known yet.
    Later(Pending<Decision>),
}

/// How a request goes to an instance.
pub struct Forward {
    /// Where to.
    pub target: Target,
    /// The path and query that it gets instead of its own.
    pub path: Option<Vec<u8>>,
    /// Lines that its head gets besides, each with its end.
    pub lines: Vec<u8>,
    /// Fields that it must not keep: these carry a secret that is for the gateway.
    pub without: Vec<Without>,
    /// Lines that the head of its answer gets besides.
    pub answer_lines: Vec<u8>,
    /// Kept until the request is over, however long that takes.
    pub held: Option<Box<dyn Any + Send>>,
    /// Ends the request when it is over.
    pub withdrawn: Option<Pending<()>>,
}

/// Something that is taken out of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Without {
    /// The field `Authorization`.
    Authorization,
    /// The cookie with this name.
    Cookie(String),
}

impl Forward {
    /// As it is.
    pub fn to(target: Target) -> Forward {
        let (path, held, withdrawn) = (None, None, None);
        let (lines, without, answer_lines) = (Vec::new(), Vec::new(), Vec::new());
        Forward { target, path, lines, without, answer_lines, held, withdrawn }
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its lines may hold secrets.
        formatter.debug_struct("Forward").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Knows where requests go, and opens the way.
pub trait Guide: Send + Sync + 'static {
    /// Decides about a request.
    fn decide(&self, ask: &Ask<'_>) -> Decision;

    /// Whether a request for this host and path is one for the API.
    fn is_api(&self, host: &str, path: &str) -> bool;

    /// Connects to a port of an instance.
    fn dial(&self, target: Target) -> Pending<Result<UpstreamIo, Refusal>>;

    /// An instance cannot be reached. Whether another decision is worth a try.
    fn forget(&self, target: Target) -> bool {
        let _ = target;
        false
    }
}
