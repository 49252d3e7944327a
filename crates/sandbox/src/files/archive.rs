//! Folders as archives (tar, POSIX.1-1988 with the extensions of GNU).

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tar::{Archive, Builder, Entry, EntryType, Header};

use super::place::{About, Obstacle, Outcome, Root, info_in, info_of, open, split, times};
use super::protocol::{FILE_CHUNK_BYTES_MAX, FileErrorKind, FileInfo, FileKind, FileReply};
use super::serve::{Stop, is_dots, tell};
use super::write::Chunks;

/// How the places of an archive are followed: never out of its folder.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// Sends what is at a path, with all that is below: a folder as what is in it, with names that begin
/// there; anything else by its own name.
pub(super) fn pack(root: &Root, path: &str, socket: &mut UnixStream) -> Result<(), Stop> {
    let info = root.info(path).about(path)?;
    tell(socket, &FileReply::Info(info.clone()))?;
    let mut builder = Builder::new(ChunkWriter { socket, bytes: Vec::new() });
    let packed = match info.kind {
        FileKind::Folder => pack_folders(root, path, &mut builder),
        _ => {
            let (above, name) = split(path).unwrap_or(("/", path));
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let name = CString::new(name).map_err(io::Error::from).about(path)?;
            let folder = root.at(above, flags, Mode::empty()).about(above)?;
            let entry = Found { info, name: &name, relative: PathBuf::from(os(&name)) };
            pack_one(&folder, &entry, path, &mut builder)
        }
    };
    let mut chunks = builder.into_inner()?;
    chunks.finish()?;
    let socket = chunks.socket;
    let reply = match packed {
        Ok(()) => FileReply::Done,
        Err(Stop::Obstacle(obstacle)) => obstacle.reply(),
        Err(stop) => return Err(stop),
    };
    Ok(tell(socket, &reply)?)
}

/// What was found in a folder.
struct Found<'a> {
    info: FileInfo,
    name: &'a CStr,
    /// Where it is in the archive.
    relative: PathBuf,
}

type Packing<'a> = Builder<ChunkWriter<'a>>;

fn pack_folders(root: &Root, path: &str, builder: &mut Packing<'_>) -> Result<(), Stop> {
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        let full = Path::new(path).join(&relative);
        let shown = full.to_string_lossy().into_owned();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        // As bytes, because a name may be anything.
        let folder = match root.at_bytes(full.as_os_str().as_bytes(), flags) {
            Ok(folder) => folder,
            // What is mounted there is not a part of any folder.
            Err(error) if error.raw_os_error().is_none() && !relative.as_os_str().is_empty() => {
                continue;
            }
            Err(error) => return Err(Stop::from(Err::<(), _>(error).about(&shown).unwrap_err())),
        };
        if !relative.as_os_str().is_empty() {
            let info = info_of("", &folder).about(&shown)?;
            let mut header = header(&info, EntryType::Directory);
            builder.append_data(&mut header, &relative, io::empty())?;
        }
        let mut names: Vec<CString> = Vec::new();
        for entry in Dir::read_from(&folder).about(&shown)? {
            names.push(entry.about(&shown)?.file_name().to_owned());
        }
        names.sort_unstable();
        for name in names.iter().filter(|name| !is_dots(name)) {
            let Ok(info) = info_in(&folder, name) else {
                continue;
            };
            let relative = relative.join(os(name));
            if info.kind == FileKind::Folder {
                waiting.push(relative);
            } else {
                let shown = full.join(os(name)).to_string_lossy().into_owned();
                pack_one(&folder, &Found { info, name, relative }, &shown, builder)?;
            }
        }
    }
    Ok(())
}

fn pack_one(
    folder: &OwnedFd,
    found: &Found<'_>,
    shown: &str,
    builder: &mut Packing<'_>,
) -> Result<(), Stop> {
    match found.info.kind {
        FileKind::File => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
            let name = found.name.to_bytes();
            let file = open(folder, name, flags, Mode::empty(), BENEATH).about(shown)?;
            let info = info_of("", &file).about(shown)?;
            if info.kind != FileKind::File {
                return Ok(());
            }
            let mut header = header(&info, EntryType::Regular);
            // As long as its head says, whatever becomes of the file meanwhile.
            let content = File::from(file).chain(io::repeat(0)).take(info.size_bytes);
            builder.append_data(&mut header, &found.relative, content)?;
        }
        FileKind::Link => {
            let target = rustix::fs::readlinkat(folder, found.name, Vec::new()).about(shown)?;
            let mut header = header(&found.info, EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, &found.relative, os(&target))?;
        }
        FileKind::Folder | FileKind::Special => {}
    }
    Ok(())
}

fn header(info: &FileInfo, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(if kind == EntryType::Regular { info.size_bytes } else { 0 });
    header.set_mode(info.mode);
    header.set_uid(info.uid.into());
    header.set_gid(info.gid.into());
    header.set_mtime(info.modified_ms / 1000);
    header
}

fn os(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}

/// Sends chunks.
struct ChunkWriter<'a> {
    socket: &'a mut UnixStream,
    bytes: Vec<u8>,
}

impl ChunkWriter<'_> {
    fn send(&mut self) -> io::Result<()> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.socket.write_all(&length.to_le_bytes())?;
        self.socket.write_all(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }

    /// Sends what is left, and the empty chunk at the end.
    fn finish(&mut self) -> io::Result<()> {
        if !self.bytes.is_empty() {
            self.send()?;
        }
        self.send()
    }
}

impl Write for ChunkWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = bytes.len().min(FILE_CHUNK_BYTES_MAX - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..part]);
        if self.bytes.len() == FILE_CHUNK_BYTES_MAX {
            self.send()?;
        }
        Ok(part)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts what comes into a folder.
pub(super) fn unpack(root: &Root, path: &str, socket: &mut UnixStream) -> Result<(), Stop> {
    let mut archive = Archive::new(Chunks::new(socket));
    let unpacked = root.folder(path).about(path).and_then(|folder| {
        let mut unpacker = Unpacker { folder, path, folders: Vec::new() };
        unpacker.take(&mut archive)?;
        unpacker.finish()
    });
    // Whoever sends hears the answer only when all is sent.
    archive.into_inner().drain()?;
    Ok(unpacked?)
}

struct Unpacker<'a> {
    folder: OwnedFd,
    path: &'a str,
    /// Folders whose permissions are set at the end, because they might forbid to fill them.
    folders: Vec<(Vec<Vec<u8>>, u32, u64)>,
}

type Packed<'a, 'b> = Entry<'a, Chunks<'b>>;

impl Unpacker<'_> {
    fn take(&mut self, archive: &mut Archive<Chunks<'_>>) -> Outcome<()> {
        let unreadable = |error: io::Error| {
            let reason = format!("the archive cannot be read: {error}");
            Obstacle::new(FileErrorKind::Invalid, reason)
        };
        for entry in archive.entries().map_err(unreadable)? {
            let mut entry = entry.map_err(unreadable)?;
            let name = entry.path_bytes().into_owned();
            let shown = format!("{}/{}", self.path, String::from_utf8_lossy(&name));
            let parts = self.parts(&name)?;
            let Some((name, above)) = parts.split_last() else {
                continue;
            };
            self.put(&mut entry, above, name, &shown)?;
        }
        Ok(())
    }

    /// The names of a path in the archive. One that leads out is refused.
    fn parts(&self, path: &[u8]) -> Outcome<Vec<Vec<u8>>> {
        let parts = path.split(|byte| *byte == b'/');
        let parts: Vec<_> =
            parts.filter(|it| !matches!(*it, b"" | b".")).map(<[u8]>::to_vec).collect();
        if parts.iter().any(|part| part == b"..") {
            let shown = String::from_utf8_lossy(path);
            let reason = format!("the archive names a place outside of the folder: {shown}");
            return Err(Obstacle::new(FileErrorKind::Invalid, reason));
        }
        Ok(parts)
    }

    fn put(
        &mut self,
        entry: &mut Packed<'_, '_>,
        above: &[Vec<u8>],
        name: &[u8],
        shown: &str,
    ) -> Outcome<()> {
        let header = entry.header();
        let (mode, mtime) = (header.mode().unwrap_or(0o644) & 0o7777, header.mtime().unwrap_or(0));
        let kind = header.entry_type();
        let parent = self.place(above).about(shown)?;
        match kind {
            EntryType::Directory => {
                match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
                    Err(Errno::EXIST) => {
                        let flags = OFlags::PATH | OFlags::DIRECTORY;
                        open(&parent, name, flags, Mode::empty(), BENEATH).about(shown)?;
                    }
                    made => made.about(shown)?,
                }
                let parts = above.iter().cloned().chain([name.to_vec()]).collect();
                self.folders.push((parts, mode, mtime));
                Ok(())
            }
            EntryType::Regular | EntryType::Continuous => {
                clear(&parent, name).about(shown)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let start = Mode::from_raw_mode(0o600);
                let file = rustix::fs::openat(&parent, name, flags | OFlags::CLOEXEC, start);
                let mut file = File::from(file.about(shown)?);
                copy(entry, &mut file, shown)?;
                rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).about(shown)?;
                rustix::fs::futimens(&file, &times(mtime)).about(shown)
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                clear(&parent, name).about(shown)?;
                rustix::fs::symlinkat(&*target, &parent, name).about(shown)
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let target = self.parts(&target)?;
                let Some((old, above)) = target.split_last() else {
                    return Err(Obstacle::new(
                        FileErrorKind::Invalid,
                        format!("{shown}: links to nothing"),
                    ));
                };
                let from = self.place(above).about(shown)?;
                clear(&parent, name).about(shown)?;
                rustix::fs::linkat(&from, &**old, &parent, name, AtFlags::empty()).about(shown)
            }
            // Devices are the node's, and pipes are of no use to anybody who is not there.
            _ => Ok(()),
        }
    }

    /// A folder below that of the archive, which is made if it is missing.
    fn place(&self, parts: &[Vec<u8>]) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let whole = match parts {
            [] => b".".to_vec(),
            parts => parts.join(&b'/'),
        };
        match open(&self.folder, &whole, flags, Mode::empty(), BENEATH) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let (name, above) = parts.split_last().ok_or(io::ErrorKind::NotFound)?;
        let above = self.place(above)?;
        match rustix::fs::mkdirat(&above, &**name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => open(&self.folder, &whole, flags, Mode::empty(), BENEATH),
            Err(error) => Err(error.into()),
        }
    }

    fn finish(self) -> Outcome<()> {
        for (parts, mode, mtime) in self.folders.iter().rev() {
            let whole = parts.join(&b'/');
            let shown = format!("{}/{}", self.path, String::from_utf8_lossy(&whole));
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let folder = open(&self.folder, &whole, flags, Mode::empty(), BENEATH).about(&shown)?;
            rustix::fs::futimens(&folder, &times(*mtime)).about(&shown)?;
            rustix::fs::fchmod(&folder, Mode::from_raw_mode(*mode)).about(&shown)?;
        }
        Ok(())
    }
}

/// Makes room for a file: what is there goes, unless it is a folder.
fn clear(folder: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            Err(io::Error::from_raw_os_error(libc::EISDIR))
        }
        Ok(_) => Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?),
    }
}

fn copy(entry: &mut Packed<'_, '_>, file: &mut File, shown: &str) -> Outcome<()> {
    let mut buffer = vec![0; FILE_CHUNK_BYTES_MAX];
    loop {
        let read = entry.read(&mut buffer).map_err(|error| {
            let reason = format!("the archive cannot be read: {error}");
            Obstacle::new(FileErrorKind::Invalid, reason)
        })?;
        if read == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..read]).about(shown)?;
    }
}
