//! One connection with many streams between an agent and its controller.
//!
//! Both sides are the same but for who opened the connection: either may open streams, and each
//! stream has its own flow control, so that a slow reader of a log does not hold up the reports.

use futures::future::poll_fn;
use spawnery_wire::frame::{self, FrameError};
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, Mode};

/// One stream of a [`Session`].
pub type Stream = Compat<yamux::Stream>;

/// Streams of one session at once: enough for a few for each of a thousand instances. When it is
/// reached, opening fails.
const STREAMS_MAX: usize = 4096;

/// Streams that the other side opened and nobody has taken yet. Further ones are closed at once.
const STREAMS_WAITING_MAX: usize = 256;

/// A link cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection ended.
    #[error("the link is closed")]
    Closed,
    /// The connection failed.
    #[error("the link failed: {0}")]
    Io(#[from] std::io::Error),
    /// The other side does not speak as expected.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The connection's multiplexing failed.
    #[error("the link failed: {0}")]
    Streams(#[from] yamux::ConnectionError),
}

type OpenRequest = oneshot::Sender<Result<Stream, LinkError>>;

/// A handle for opening streams. The connection is closed when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Session {
    requests: mpsc::Sender<OpenRequest>,
}

impl Session {
    /// The side that opened the connection. Also gives the streams that the other side opens; it
    /// ends when the connection does.
    pub fn client<T>(io: T) -> (Session, mpsc::Receiver<Stream>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Session::start(io, Mode::Client)
    }

    /// The side that accepted the connection.
    pub fn server<T>(io: T) -> (Session, mpsc::Receiver<Stream>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Session::start(io, Mode::Server)
    }

    fn start<T>(io: T, mode: Mode) -> (Session, mpsc::Receiver<Stream>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut config = Config::default();
        config.set_max_num_streams(STREAMS_MAX);
        let (requests, requests_in) = mpsc::channel(STREAMS_WAITING_MAX);
        let (incoming, incoming_out) = mpsc::channel(STREAMS_WAITING_MAX);
        let connection = Connection::new(io.compat(), config, mode);
        tokio::spawn(drive(connection, requests_in, incoming));
        (Session { requests }, incoming_out)
    }

    /// Opens a stream. The other side hears of it with the first bytes that are written.
    pub async fn open(&self) -> Result<Stream, LinkError> {
        let (request, opened) = oneshot::channel();
        self.requests.send(request).await.map_err(|_| LinkError::Closed)?;
        opened.await.map_err(|_| LinkError::Closed)?
    }
}

/// Moves the connection along until it ends or nobody wants it any more.
async fn drive<T>(
    mut connection: Connection<Compat<T>>,
    mut requests: mpsc::Receiver<OpenRequest>,
    incoming: mpsc::Sender<Stream>,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut pending: Option<OpenRequest> = None;
    poll_fn(|cx| {
        loop {
            let mut progress = false;
            if pending.is_none() {
                match requests.poll_recv(cx) {
                    Poll::Ready(Some(request)) => pending = Some(request),
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            if let Some(request) = pending.take() {
                match connection.poll_new_outbound(cx) {
                    Poll::Ready(opened) => {
                        // Whoever asked may have gone; then the stream closes by itself.
                        let _ = request.send(opened.map(|s| s.compat()).map_err(LinkError::from));
                        progress = true;
                    }
                    Poll::Pending => pending = Some(request),
                }
            }
            match connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    // When too many wait, this one is closed by being dropped.
                    let _ = incoming.try_send(stream.compat());
                    progress = true;
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if !progress {
                return Poll::Pending;
            }
        }
    })
    .await;
    // A failure to say goodbye is no news: the connection is over either way.
    let _ = poll_fn(|cx| connection.poll_close(cx)).await;
}

/// Reads one frame. A connection that ends between frames is [`LinkError::Closed`].
pub async fn read_frame<T, R>(reader: &mut R) -> Result<T, LinkError>
where
    T: for<'b> minicbor::Decode<'b, ()>,
    R: AsyncRead + Unpin,
{
    let mut head = [0; 4];
    match reader.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(LinkError::Closed);
        }
        Err(error) => return Err(error.into()),
    }
    let length = frame::length(head)?;
    let mut bytes = Vec::with_capacity(length.min(1 << 20));
    let read = reader.take(length as u64).read_to_end(&mut bytes).await?;
    if read < length {
        return Err(LinkError::Closed);
    }
    Ok(frame::decode(&bytes)?)
}

/// Writes one frame and sends it off.
pub async fn write_frame<T, W>(writer: &mut W, message: &T) -> Result<(), LinkError>
where
    T: minicbor::Encode<()>,
    W: AsyncWrite + Unpin,
{
    writer.write_all(&frame::encode(message)).await?;
    writer.flush().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_wire::link::LogFrame;

    #[tokio::test]
    async fn both_sides_open_streams() {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (client, mut to_client) = Session::client(near);
        let (server, mut to_server) = Session::server(far);

        let mut first = client.open().await.unwrap();
        write_frame(&mut first, &LogFrame::End).await.unwrap();
        let mut accepted = to_server.recv().await.unwrap();
        assert_eq!(read_frame::<LogFrame, _>(&mut accepted).await.unwrap(), LogFrame::End);

        let mut second = server.open().await.unwrap();
        let gap = LogFrame::Gap { from: 1, to: 2 };
        write_frame(&mut second, &gap).await.unwrap();
        let mut accepted = to_client.recv().await.unwrap();
        assert_eq!(read_frame::<LogFrame, _>(&mut accepted).await.unwrap(), gap);
    }

    #[tokio::test]
    async fn the_session_ends_with_its_connection() {
        let (near, far) = tokio::io::duplex(1024);
        let (client, mut to_client) = Session::client(near);
        drop(far);
        assert!(to_client.recv().await.is_none());
        assert!(client.open().await.is_err());
    }

    #[tokio::test]
    async fn a_stream_that_ends_is_closed_for_the_reader() {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (client, _to_client) = Session::client(near);
        let (_server, mut to_server) = Session::server(far);
        let mut stream = client.open().await.unwrap();
        stream.write_all(b"\0\0").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut accepted = to_server.recv().await.unwrap();
        let read = read_frame::<LogFrame, _>(&mut accepted).await;
        assert!(matches!(read, Err(LinkError::Closed)));
    }
}
