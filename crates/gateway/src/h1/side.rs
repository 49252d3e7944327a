//! One of the two connections of an exchange, with what was read from it and what is to be
//! written to it.

use bytes::{Buf, BufMut, BytesMut};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

/// Bytes to read at once at first: nearly all heads, and small bodies.
const READ_BYTES: usize = 4 << 10;

/// Bytes to read at once of what is long.
const READ_BYTES_LONG: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Side<I> {
    pub(crate) io: I,
    pub(crate) input: BytesMut,
    pub(crate) output: BytesMut,
    /// Whether something was written that may not have left yet.
    unflushed: bool,
    /// Whether anything was ever written.
    pub(crate) wrote: bool,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Side<I> {
    pub(crate) fn new(io: I) -> Side<I> {
        let (input, output) = (BytesMut::new(), BytesMut::new());
        Side { io, input, output, unflushed: false, wrote: false }
    }

    /// Reads more. `0` is the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
            self.input.reserve(READ_BYTES);
        }
        poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input)
    }

    /// Reads at most `bytes_max` into somebody else's output. `0` is the end.
    pub(crate) fn poll_fill_into(
        &mut self,
        output: &mut BytesMut,
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let size = bytes_max.min(READ_BYTES_LONG);
        if output.capacity() - output.len() < size.min(READ_BYTES) {
            output.reserve(size);
        }
        let mut limited = output.limit(bytes_max);
        poll_read_buf(Pin::new(&mut self.io), cx, &mut limited)
    }

    /// Writes what it can. Says whether anything went.
    pub(crate) fn drain(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut progress = false;
        while !self.output.is_empty() {
            match Pin::new(&mut self.io).poll_write(cx, &self.output) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    self.output.advance(written);
                    (progress, self.unflushed, self.wrote) = (true, true, true);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(progress),
            }
        }
        if self.unflushed && Pin::new(&mut self.io).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        Ok(progress)
    }

    /// Whether all that was to be written has left.
    pub(crate) fn is_drained(&self) -> bool {
        self.output.is_empty() && !self.unflushed
    }

    /// Writes everything.
    pub(crate) fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.drain(cx)?;
        if self.is_drained() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Reads and forgets, so that a client that still writes sees our answer before its connection
    /// ends. Ready at the end.
    pub(crate) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.input.clear();
            match ready!(self.poll_fill(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    }

    /// Gives memory back while nothing happens.
    pub(crate) fn shrink(&mut self) {
        for buffer in [&mut self.input, &mut self.output] {
            if buffer.is_empty() && buffer.capacity() > READ_BYTES * 2 {
                *buffer = BytesMut::new();
            }
        }
    }
}
