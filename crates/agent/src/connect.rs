//! How an agent reaches its controller.

use std::future::Future;
use std::io;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};

/// A connection to a controller: bytes in both directions.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A connection, once it is open.
pub type Connecting<'a> =
    Pin<Box<dyn Future<Output = io::Result<Box<dyn Connection>>> + Send + 'a>>;

/// Opens connections to a controller.
pub trait Connect: Send + Sync + 'static {
    /// Opens one; the agent limits how long this may take.
    fn connect(&self) -> Connecting<'_>;

    /// The certificate (DER) of the authority that vouched for the controller at the last
    /// connection, to be kept with the node's identity; nothing, where none is needed.
    fn authority(&self) -> Option<Vec<u8>> {
        None
    }
}

/// Bytes on their way between an agent and a controller in one process.
const LOCAL_BUFFER_BYTES: usize = 64 * 1024;

/// Connections to a controller in the same process: both ends trust each other.
pub struct Local {
    hand_over: Box<dyn Fn(DuplexStream) -> io::Result<()> + Send + Sync>,
}

impl Local {
    /// `hand_over` gives the controller its end of each new connection.
    pub fn new(hand_over: impl Fn(DuplexStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self { hand_over: Box::new(hand_over) }
    }
}

impl Connect for Local {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async {
            let (near, far) = duplex(LOCAL_BUFFER_BYTES);
            (self.hand_over)(far)?;
            Ok(Box::new(near) as Box<dyn Connection>)
        })
    }
}
