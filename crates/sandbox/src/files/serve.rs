//! One request, from its socket to its end.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixStream;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};

use super::place::{About, Obstacle, Outcome, Root, checked, info_in, open_file, split};
use super::protocol::{
    FILE_CHUNK_BYTES_MAX, FILE_ENTRIES_MAX, FileErrorKind, FileInfo, FileRange, FileReply,
    FileRequest, decode_file_frame, encode_file_frame, file_frame_length,
};
use super::{archive, watch, write};

/// Answers the request that comes over `socket`. An error is that of the socket.
pub(crate) fn serve(mut socket: UnixStream) -> io::Result<()> {
    let mut head = [0; 4];
    socket.read_exact(&mut head)?;
    let length = file_frame_length(head).ok_or(io::ErrorKind::InvalidData)?;
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    let done = match decode_file_frame(&body) {
        Some(request) => answer(request, &mut socket),
        None => {
            let reason = "this node does not understand the request";
            Err(Stop::Obstacle(Obstacle::new(FileErrorKind::Invalid, reason)))
        }
    };
    match done {
        Ok(()) => Ok(()),
        Err(Stop::Obstacle(obstacle)) => tell(&mut socket, &obstacle.reply()),
        Err(Stop::Socket(error)) => Err(error),
    }
}

/// Why an answer is not given to its end.
pub(super) enum Stop {
    /// It cannot be done, which is told.
    Obstacle(Obstacle),
    /// Nobody listens.
    Socket(io::Error),
}

impl From<Obstacle> for Stop {
    fn from(obstacle: Obstacle) -> Stop {
        Stop::Obstacle(obstacle)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Socket(error)
    }
}

/// Sends an answer.
pub(super) fn tell(socket: &mut UnixStream, reply: &FileReply) -> io::Result<()> {
    socket.write_all(&encode_file_frame(reply))
}

fn answer(request: FileRequest, socket: &mut UnixStream) -> Result<(), Stop> {
    let open = |error: io::Error| Obstacle::new(FileErrorKind::Other, error.to_string());
    let root = Root::open().map_err(open)?;
    let reply = match request {
        FileRequest::Stat { path } => stat(&root, &checked(&path)?)?,
        FileRequest::List { path, after, limit } => {
            list(&root, &checked(&path)?, after.as_deref(), limit)?
        }
        FileRequest::Read { path, range } => return read(&root, &checked(&path)?, range, socket),
        FileRequest::Write { path, offset, mode } => {
            let path = checked(&path)?;
            write::receive(&root, &path, offset, mode, socket)?;
            stat(&root, &path)?
        }
        FileRequest::MakeFolder { path, mode } => {
            let path = checked(&path)?;
            root.folder(&path).about(&path)?;
            mode.map_or(Ok(()), |mode| set_mode(&path, mode))?;
            stat(&root, &path)?
        }
        FileRequest::Remove { path, recursive } => remove(&root, &checked(&path)?, recursive)?,
        FileRequest::Move { path, to, replace } => {
            rename(&root, &checked(&path)?, &checked(&to)?, replace)?
        }
        FileRequest::SetMode { path, mode } => {
            let path = checked(&path)?;
            set_mode(&path, mode)?;
            stat(&root, &path)?
        }
        FileRequest::Pack { path } => return archive::pack(&root, &checked(&path)?, socket),
        FileRequest::Unpack { path } => {
            let path = checked(&path)?;
            archive::unpack(&root, &path, socket)?;
            stat(&root, &path)?
        }
        FileRequest::Watch { path, recursive } => {
            return watch::tell_events(&root, &checked(&path)?, recursive, socket);
        }
    };
    Ok(tell(socket, &reply)?)
}

fn stat(root: &Root, path: &str) -> Outcome<FileReply> {
    root.info(path).map(FileReply::Info).about(path)
}

/// The part of a folder that comes after a name, by name. However large the folder is, only so many
/// names are kept.
fn list(root: &Root, path: &str, after: Option<&str>, limit: u32) -> Outcome<FileReply> {
    let limit = limit.clamp(1, FILE_ENTRIES_MAX) as usize;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let folder = root.at(path, flags, Mode::empty()).about(path)?;
    let mut names: BTreeMap<CString, ()> = BTreeMap::new();
    let mut more = false;
    for entry in Dir::read_from(&folder).about(path)? {
        let name = entry.about(path)?.file_name().to_owned();
        let is_wanted = after.is_none_or(|after| name.as_bytes() > after.as_bytes());
        if is_wanted && !is_dots(&name) {
            names.insert(name, ());
        }
        if names.len() > limit {
            names.pop_last();
            more = true;
        }
    }
    // What was removed in between is not there.
    let found = names.into_keys().filter_map(|name| info_in(&folder, &name).ok());
    Ok(FileReply::Entries { entries: found.collect(), more })
}

/// Whether it is the folder itself, or that above it.
pub(super) fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

fn read(
    root: &Root,
    path: &str,
    range: Option<FileRange>,
    socket: &mut UnixStream,
) -> Result<(), Stop> {
    let (mut file, info) = open_file(root, path)?;
    let size = info.size_bytes;
    let (offset, length) = match range {
        None => (0, size),
        Some(FileRange::From { offset, length_max })
            if offset < size || (offset, size) == (0, 0) =>
        {
            (offset, length_max.unwrap_or(u64::MAX).min(size - offset))
        }
        Some(FileRange::Last { length_max }) if length_max > 0 => {
            (size.saturating_sub(length_max), size.min(length_max))
        }
        Some(_) => {
            let reason = format!("the file has {size} bytes, and no such part");
            return Err(Obstacle::new(FileErrorKind::Range, reason).into());
        }
    };
    file.seek(SeekFrom::Start(offset)).about(path)?;
    tell(socket, &FileReply::Content { info, offset, length })?;
    let mut buffer = vec![0; FILE_CHUNK_BYTES_MAX];
    let mut left = length;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        // One that became shorter, or cannot be read any more, ends early, which the reader sees.
        let read = file.read(&mut buffer[..part])?;
        if read == 0 {
            return Ok(());
        }
        socket.write_all(&buffer[..read])?;
        left -= read as u64;
    }
    Ok(())
}

fn set_mode(path: &str, mode: u32) -> Outcome<()> {
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o7777);
    std::fs::set_permissions(path, permissions).about(path)
}

fn remove(root: &Root, path: &str, recursive: bool) -> Outcome<FileReply> {
    if path == "/" {
        let reason = "the root itself cannot be removed";
        return Err(Obstacle::new(FileErrorKind::Invalid, reason));
    }
    let info: FileInfo = root.info(path).about(path)?;
    let removed = match (info.kind, recursive) {
        (super::protocol::FileKind::Folder, true) => std::fs::remove_dir_all(path),
        (super::protocol::FileKind::Folder, false) => std::fs::remove_dir(path),
        _ => std::fs::remove_file(path),
    };
    removed.about(path)?;
    Ok(FileReply::Done)
}

fn rename(root: &Root, from: &str, to: &str, replace: bool) -> Outcome<FileReply> {
    let invalid = |reason: &str| Obstacle::new(FileErrorKind::Invalid, reason);
    let (from_above, from_name) =
        split(from).ok_or_else(|| invalid("the root itself cannot be moved"))?;
    let (to_above, to_name) =
        split(to).ok_or_else(|| invalid("nothing can take the place of the root"))?;
    let place = OFlags::PATH | OFlags::DIRECTORY;
    let from_folder = root.at(from_above, place, Mode::empty()).about(from)?;
    rustix::fs::statat(&from_folder, from_name, AtFlags::SYMLINK_NOFOLLOW).about(from)?;
    let to_folder = root.folder(to_above).about(to)?;
    let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    match rustix::fs::renameat_with(&from_folder, from_name, &to_folder, to_name, flags) {
        Err(rustix::io::Errno::XDEV) => {
            let reason =
                format!("{to} is on another disk than {from}: copy it, and remove it then");
            Err(Obstacle::new(FileErrorKind::Other, reason))
        }
        result => {
            result.about(to)?;
            stat(root, to)
        }
    }
}
