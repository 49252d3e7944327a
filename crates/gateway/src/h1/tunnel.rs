//! Two connections that speak a protocol that is none of the gateway's business.

use super::side::Side;
use crate::io::{ClientIo, UpstreamIo};
use bytes::{Buf, BytesMut};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read at once. All tunnels of a thread share one such buffer: thousands of them
/// are idle, and an idle one shall hold no memory for what might come.
const SHARED_BYTES: usize = 64 << 10;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; SHARED_BYTES].into());
}

/// One direction.
#[derive(Debug)]
struct Way {
    /// What was read and could not be written yet.
    waiting: BytesMut,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The reader has said all.
    Ending,
    Ended,
}

/// Carries bytes both ways until both ends have said all, one of them breaks, or `withdrawn` is
/// over. The end of one is passed on to the other.
pub(crate) async fn tunnel(
    client: Side<ClientIo>,
    upstream: Side<UpstreamIo>,
    withdrawn: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
) {
    let Side { io: mut client, input: from_client, output: to_client, .. } = client;
    let Side { io: mut upstream, input: from_upstream, output: to_upstream, .. } = upstream;
    let way = |mut first: BytesMut, then: BytesMut| {
        first.unsplit(then);
        Way { waiting: first, stage: Stage::Open }
    };
    let mut up = way(to_upstream, from_client);
    let mut down = way(to_client, from_upstream);
    let mut withdrawn = withdrawn;
    // However it ends, both sides see their connection end.
    let _ = poll_fn(|cx| {
        if let Some(withdrawn) = &mut withdrawn
            && withdrawn.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Ok(()));
        }
        up.poll(&mut client, &mut upstream, cx)?;
        down.poll(&mut upstream, &mut client, cx)?;
        match up.stage == Stage::Ended && down.stage == Stage::Ended {
            true => Poll::Ready(io::Result::Ok(())),
            false => Poll::Pending,
        }
    })
    .await;
}

impl Way {
    /// Moves what it can.
    fn poll<R, W>(&mut self, from: &mut R, to: &mut W, cx: &mut Context<'_>) -> io::Result<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while !self.waiting.is_empty() {
                match Pin::new(&mut *to).poll_write(cx, &self.waiting)? {
                    Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(written) => self.waiting.advance(written),
                    Poll::Pending => return Ok(()),
                }
            }
            if self.waiting.capacity() > 0 {
                self.waiting = BytesMut::new();
            }
            match self.stage {
                Stage::Open => {
                    if !self.read(from, to, cx)? {
                        // What was written must not stay in a buffer while nothing comes.
                        let _ = Pin::new(&mut *to).poll_flush(cx)?;
                        return Ok(());
                    }
                }
                Stage::Ending => match Pin::new(&mut *to).poll_shutdown(cx) {
                    // It may have gone already.
                    Poll::Ready(_) => self.stage = Stage::Ended,
                    Poll::Pending => return Ok(()),
                },
                Stage::Ended => return Ok(()),
            }
        }
    }

    /// Reads once and writes it at once if it can. Says whether there was anything.
    fn read<R, W>(&mut self, from: &mut R, to: &mut W, cx: &mut Context<'_>) -> io::Result<bool>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        SHARED.with_borrow_mut(|shared| {
            let mut buffer = ReadBuf::new(shared);
            if Pin::new(from).poll_read(cx, &mut buffer)?.is_pending() {
                return Ok(false);
            }
            let read = buffer.filled();
            if read.is_empty() {
                self.stage = Stage::Ending;
                return Ok(true);
            }
            let written = match Pin::new(to).poll_write(cx, read)? {
                Poll::Ready(written) => written,
                Poll::Pending => 0,
            };
            self.waiting.extend_from_slice(&read[written..]);
            Ok(true)
        })
    }
}
