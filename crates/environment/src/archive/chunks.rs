//! Unpacks and hashes in a thread of its own, so that it goes on while files are written.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use crate::limits::{ARCHIVE_CHUNKS_MAX, COPY_BUFFER_BYTES};

/// What the thread sends: bytes, or why there are no more.
type Chunk = io::Result<Vec<u8>>;

/// The unpacked bytes, as they come from the thread.
pub(super) struct Chunks {
    from: Receiver<Chunk>,
    /// Buffers that are free again.
    back: SyncSender<Vec<u8>>,
    buffer: Vec<u8>,
    used: usize,
    ended: bool,
}

/// Runs `reads` with the unpacked bytes of `packed`, whose form is told by its first bytes: gzip,
/// zstd or not packed. Returns what it returns, and the SHA-256 of the unpacked bytes if it read
/// all of them and nothing failed.
pub(super) fn with_unpacked<T>(
    packed: &mut (dyn Read + Send),
    reads: impl FnOnce(&mut Chunks) -> T,
) -> (T, io::Result<[u8; 32]>) {
    let (to, from) = sync_channel::<Chunk>(ARCHIVE_CHUNKS_MAX);
    let (back, free) = sync_channel::<Vec<u8>>(ARCHIVE_CHUNKS_MAX);
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || send(packed, &to, &free));
        let mut chunks = Chunks { from, back, buffer: Vec::new(), used: 0, ended: false };
        let result = reads(&mut chunks);
        // The thread ends when nobody reads any more.
        drop(chunks);
        let panicked = || Err(io::Error::other("the thread that unpacks has panicked"));
        (result, thread.join().unwrap_or_else(|_| panicked()))
    })
}

fn send(
    packed: &mut (dyn Read + Send),
    to: &SyncSender<Chunk>,
    free: &Receiver<Vec<u8>>,
) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut unpacked = match unpacker(packed) {
        Ok(unpacked) => unpacked,
        Err(error) => return Err(pass_on(error, to)),
    };
    loop {
        let mut buffer = free.try_recv().unwrap_or_default();
        buffer.resize(COPY_BUFFER_BYTES, 0);
        match fill(&mut *unpacked, &mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(count) => {
                buffer.truncate(count);
                hash.update(&buffer);
                if to.send(Ok(buffer)).is_err() {
                    return Err(io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads it"));
                }
            }
            Err(error) => return Err(pass_on(error, to)),
        }
    }
}

/// Tells both sides of the same error.
fn pass_on(error: io::Error, to: &SyncSender<Chunk>) -> io::Error {
    let _ = to.send(Err(io::Error::new(error.kind(), error.to_string())));
    error
}

fn unpacker<'a>(packed: &'a mut (dyn Read + Send)) -> io::Result<Box<dyn Read + 'a>> {
    let mut packed = BufReader::with_capacity(COPY_BUFFER_BYTES, packed);
    let mut start = Vec::new();
    (&mut packed).take(4).read_to_end(&mut start)?;
    let is_gzip = start.starts_with(&[0x1f, 0x8b]);
    let is_zstd = start == [0x28, 0xb5, 0x2f, 0xfd];
    let whole = BufReader::with_capacity(COPY_BUFFER_BYTES, io::Cursor::new(start).chain(packed));
    Ok(match (is_gzip, is_zstd) {
        (true, _) => Box::new(MultiGzDecoder::new(whole)),
        (_, true) => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
        _ => Box::new(whole),
    })
}

/// Reads until the buffer is full or there is no more.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match from.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.buffer.len() && !self.ended {
            let empty = std::mem::take(&mut self.buffer);
            self.used = 0;
            if empty.capacity() > 0 {
                let _ = self.back.try_send(empty);
            }
            match self.from.recv() {
                Ok(Ok(buffer)) => self.buffer = buffer,
                Ok(Err(error)) => {
                    self.ended = true;
                    return Err(error);
                }
                Err(_) => self.ended = true,
            }
        }
        Ok(&self.buffer[self.used..])
    }

    fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.buffer.len());
    }
}

impl Read for Chunks {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let count = from.len().min(to.len());
        to[..count].copy_from_slice(&from[..count]);
        self.consume(count);
        Ok(count)
    }
}
