//! A file that is read while it is downloaded.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::ImageError;
use crate::disk::{At, DiskError};

/// Both ends of it.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    written: u64,
    ended: bool,
    failure: Option<ImageError>,
}

/// The end that writes. Dropped before [`SpoolWriter::end`], it tells the reader of a failure.
#[derive(Debug)]
pub(super) struct SpoolWriter(Arc<Spool>);

/// The end that reads, and waits for what is not there yet.
#[derive(Debug)]
pub(super) struct SpoolReader {
    spool: Arc<Spool>,
    at: u64,
}

impl Spool {
    pub(super) fn new(path: &Path) -> Result<Arc<Spool>, DiskError> {
        let file = File::options().create_new(true).read(true).write(true).open(path);
        let file = file.at("make", path)?;
        Ok(Arc::new(Spool { file, state: Mutex::default(), changed: Condvar::new() }))
    }

    pub(super) fn writer(self: &Arc<Spool>) -> SpoolWriter {
        SpoolWriter(self.clone())
    }

    pub(super) fn reader(self: &Arc<Spool>) -> SpoolReader {
        SpoolReader { spool: self.clone(), at: 0 }
    }

    /// Waits for the end; whether it was a good one.
    pub(super) fn wait(&self) -> Result<(), ImageError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.ended {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match state.failure.take() {
            None => Ok(()),
            Some(failure) => Err(failure),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

impl SpoolWriter {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&self.0.file).write_all(bytes)?;
        self.0.change(|state| state.written += bytes.len() as u64);
        Ok(())
    }

    pub(super) fn end(self, result: Result<(), ImageError>) {
        self.0.change(|state| {
            state.ended = true;
            state.failure = result.err();
        });
    }
}

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        self.0.change(|state| {
            if !state.ended {
                state.ended = true;
                let error = io::Error::new(io::ErrorKind::Interrupted, "the download was given up");
                state.failure = Some(ImageError::Read { what: "a layer".to_owned(), error });
            }
        });
    }
}

impl Read for SpoolReader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut state = self.spool.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.written == self.at && !state.ended {
            state = self.spool.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.written == self.at {
            return match &state.failure {
                // Not the kind `Interrupted`, after which a reader tries again.
                Some(failure) => Err(io::Error::other(failure.to_string())),
                None => Ok(0),
            };
        }
        let there = usize::try_from(state.written - self.at).unwrap_or(usize::MAX);
        drop(state);
        let length = there.min(to.len());
        let count = self.spool.file.read_at(&mut to[..length], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
