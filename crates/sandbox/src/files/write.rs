//! Writing a file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use super::place::{About, Obstacle, Root, split};
use super::protocol::{FILE_CHUNK_BYTES_MAX, FileErrorKind};
use super::serve::Stop;

/// Permission bits of a new file.
const MODE_DEFAULT: u32 = 0o644;

/// Bytes that come in chunks. An end without an empty chunk is an error.
pub(super) struct Chunks<'a> {
    socket: &'a mut UnixStream,
    /// Of the chunk that is being read.
    left: usize,
    is_over: bool,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(socket: &'a mut UnixStream) -> Self {
        Self { socket, left: 0, is_over: false }
    }

    /// Reads what is left, so that the other side hears the answer.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(drop)
    }
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.is_over {
            let mut head = [0; 4];
            self.socket.read_exact(&mut head)?;
            self.left = u32::from_le_bytes(head) as usize;
            self.is_over = self.left == 0;
            if self.left > FILE_CHUNK_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        if self.is_over {
            return Ok(0);
        }
        let part = buffer.len().min(self.left);
        let read = self.socket.read(&mut buffer[..part])?;
        if read == 0 && part > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        Ok(read)
    }
}

/// Writes what comes into a file.
pub(super) fn receive(
    root: &Root,
    path: &str,
    offset: Option<u64>,
    mode: Option<u32>,
    socket: &mut UnixStream,
) -> Result<(), Stop> {
    let mut chunks = Chunks::new(socket);
    let begun = Draft::begin(root, path, offset, mode);
    let mut draft = match begun {
        Ok(draft) => draft,
        Err(obstacle) => {
            // Whoever sends hears the answer only when all is sent.
            chunks.drain()?;
            return Err(obstacle.into());
        }
    };
    let written = draft.fill(&mut chunks, path);
    if let Err(Stop::Obstacle(obstacle)) = written {
        draft.discard();
        chunks.drain()?;
        return Err(obstacle.into());
    }
    if written.is_err() {
        draft.discard();
        return written;
    }
    Ok(draft.finish().about(path)?)
}

/// A file that is being written.
struct Draft {
    file: File,
    /// Where it is, and what it is to be, if it takes the place of another at its end.
    replaces: Option<Replaces>,
    mode: Option<u32>,
}

struct Replaces {
    folder: OwnedFd,
    temporary: String,
    name: String,
    owner: Option<(u32, u32)>,
}

impl Draft {
    fn begin(
        root: &Root,
        path: &str,
        offset: Option<u64>,
        mode: Option<u32>,
    ) -> Result<Self, Obstacle> {
        let Some((above, name)) = split(path) else {
            return Err(Obstacle::new(FileErrorKind::IsFolder, "/: it is a folder"));
        };
        let folder = root.folder(above).about(path)?;
        let found = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).ok();
        let is_plain = found.is_none_or(|it| is_file(&it) && it.st_nlink == 1);
        if offset.is_some() || !is_plain {
            return Self::in_place(root, path, offset, mode);
        }
        if found.is_some() {
            // Whoever may not write to the file may not replace it either.
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW;
            match root.at(path, flags, Mode::empty()) {
                Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => {}
                opened => drop(opened.about(path)?),
            }
        }
        let temporary = format!(".{:032x}.part", fresh().about(path)?);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let start = Mode::from_raw_mode(0o600);
        let file = rustix::fs::openat(&folder, &temporary, flags, start).about(path)?;
        let mode = mode.or(found.map(|it| it.st_mode & 0o7777)).unwrap_or(MODE_DEFAULT);
        let owner = found.map(|it| (it.st_uid, it.st_gid));
        let replaces = Replaces { folder, temporary, name: name.to_owned(), owner };
        Ok(Self { file: file.into(), replaces: Some(replaces), mode: Some(mode) })
    }

    /// A part of a file, or one that others know by another name, which they are to see.
    fn in_place(
        root: &Root,
        path: &str,
        offset: Option<u64>,
        mode: Option<u32>,
    ) -> Result<Self, Obstacle> {
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let start = Mode::from_raw_mode(mode.unwrap_or(MODE_DEFAULT) & 0o7777);
        let file = File::from(root.at(path, flags, start).about(path)?);
        let stat = rustix::fs::fstat(&file).about(path)?;
        if !is_file(&stat) {
            let reason = format!("{path}: it is a pipe, a socket or a device");
            return Err(Obstacle::new(FileErrorKind::Special, reason));
        }
        let mut draft = Self { file, replaces: None, mode };
        match offset {
            Some(offset) => draft.file.seek(SeekFrom::Start(offset)).map(drop).about(path)?,
            None => draft.file.set_len(0).about(path)?,
        }
        Ok(draft)
    }

    /// Errors of the file are told; those of the socket are not.
    fn fill(&mut self, chunks: &mut Chunks<'_>, path: &str) -> Result<(), Stop> {
        let mut buffer = vec![0; FILE_CHUNK_BYTES_MAX];
        loop {
            let read = chunks.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            self.file.write_all(&buffer[..read]).about(path)?;
        }
    }

    fn finish(self) -> io::Result<()> {
        if let Some((uid, gid)) = self.replaces.as_ref().and_then(|it| it.owner) {
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            // Only root may, and before the mode, which it changes.
            let _ = rustix::fs::fchown(&self.file, Some(uid), Some(gid));
        }
        if let Some(mode) = self.mode {
            rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode & 0o7777))?;
        }
        if let Some(Replaces { folder, temporary, name, .. }) = &self.replaces {
            rustix::fs::renameat(folder, temporary, folder, name).inspect_err(|_| {
                let _ = rustix::fs::unlinkat(folder, temporary, AtFlags::empty());
            })?;
        }
        Ok(())
    }

    fn discard(self) {
        if let Some(Replaces { folder, temporary, .. }) = &self.replaces {
            let _ = rustix::fs::unlinkat(folder, temporary, AtFlags::empty());
        }
    }
}

fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// A number that no other temporary file has.
fn fresh() -> io::Result<u128> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u128::from_ne_bytes(bytes))
}
