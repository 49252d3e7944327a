//! Writes tar archives: ustar, with pax headers (POSIX.1-2008) for what does not fit.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tar::{EntryType, Header};

use crate::layer::Attributes;

const BLOCK: u64 = 512;

/// Longest name that a header itself holds.
const NAME_BYTES_MAX: usize = 100;

/// Largest size that a header itself holds: 11 octal digits.
const SIZE_BYTES_MAX: u64 = 0o77_777_777_777;

/// What is written.
pub(super) enum Outgoing<'a> {
    Folder,
    Link(&'a OsStr),
    /// Another name of what was written before.
    HardLink(&'a Path),
    Pipe,
    /// A character device 0/0: the whiteout of overlayfs.
    Whiteout,
    File(u64, &'a mut dyn Read),
}

/// An archive that is being written.
pub(super) struct ArchiveWriter<W: Write> {
    to: W,
}

impl<W: Write> ArchiveWriter<W> {
    pub(super) fn new(to: W) -> ArchiveWriter<W> {
        ArchiveWriter { to }
    }

    pub(super) fn write(
        &mut self,
        path: &Path,
        attributes: &Attributes,
        what: Outgoing<'_>,
    ) -> io::Result<()> {
        let mut name = path.as_os_str().as_bytes().to_vec();
        if name.is_empty() {
            name.extend(b"./");
        } else if matches!(what, Outgoing::Folder) {
            name.push(b'/');
        }
        let (kind, size, link): (_, u64, &[u8]) = match &what {
            Outgoing::Folder => (EntryType::Directory, 0, b""),
            Outgoing::Link(target) => (EntryType::Symlink, 0, target.as_bytes()),
            Outgoing::HardLink(target) => (EntryType::Link, 0, target.as_os_str().as_bytes()),
            Outgoing::Pipe => (EntryType::Fifo, 0, b""),
            Outgoing::Whiteout => (EntryType::Char, 0, b""),
            Outgoing::File(size, _) => (EntryType::Regular, *size, b""),
        };
        let records = records(&name, link, size, attributes);
        if !records.is_empty() {
            let mut header = header(b"pax", b"", records.len() as u64, EntryType::XHeader);
            header.set_cksum();
            self.to.write_all(header.as_bytes())?;
            self.padded(records.len() as u64, &mut records.as_slice())?;
        }
        let mut header = header(&name, link, size.min(SIZE_BYTES_MAX), kind);
        header.set_mode(attributes.mode & 0o7777);
        header.set_uid(attributes.uid);
        header.set_gid(attributes.gid);
        header.set_mtime(u64::try_from(attributes.modified.0).unwrap_or(0));
        header.set_cksum();
        self.to.write_all(header.as_bytes())?;
        match what {
            Outgoing::File(size, from) => self.padded(size, from),
            _ => Ok(()),
        }
    }

    /// Writes the end of the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&[0; 2 * BLOCK as usize])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn padded(&mut self, size: u64, from: &mut dyn Read) -> io::Result<()> {
        let count = io::copy(&mut from.take(size), &mut self.to)?;
        if count != size {
            let reason = "a file became shorter while it was read";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        }
        let padding = (BLOCK - size % BLOCK) % BLOCK;
        io::copy(&mut io::repeat(0).take(padding), &mut self.to)?;
        Ok(())
    }
}

fn header(name: &[u8], link: &[u8], size: u64, kind: EntryType) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    if let Some(ustar) = header.as_ustar_mut() {
        // Longer ones are in the pax header; here is their start.
        let length = name.len().min(NAME_BYTES_MAX);
        ustar.name[..length].copy_from_slice(&name[..length]);
        let length = link.len().min(NAME_BYTES_MAX);
        ustar.linkname[..length].copy_from_slice(&link[..length]);
        ustar.set_device_major(0);
        ustar.set_device_minor(0);
    }
    header
}

/// The records of a pax header, if there have to be any.
fn records(name: &[u8], link: &[u8], size: u64, attributes: &Attributes) -> Vec<u8> {
    let mut to = Vec::new();
    if name.len() > NAME_BYTES_MAX {
        record(&mut to, b"path", name);
    }
    if link.len() > NAME_BYTES_MAX {
        record(&mut to, b"linkpath", link);
    }
    if size > SIZE_BYTES_MAX {
        record(&mut to, b"size", size.to_string().as_bytes());
    }
    let (seconds, nanoseconds) = attributes.modified;
    if seconds < 0 && nanoseconds > 0 {
        // A decimal number below zero counts down from the next second.
        let text = format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds);
        record(&mut to, b"mtime", text.as_bytes());
    } else if seconds < 0 || nanoseconds > 0 || seconds > SIZE_BYTES_MAX as i64 {
        record(&mut to, b"mtime", format!("{seconds}.{nanoseconds:09}").as_bytes());
    }
    for (name, value) in &attributes.xattrs {
        let key = [b"SCHILY.xattr.", name.as_bytes()].concat();
        record(&mut to, &key, value);
    }
    to
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(to: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    to.extend(format!("{length} ").as_bytes());
    to.extend(key);
    to.push(b'=');
    to.extend(value);
    to.push(b'\n');
}
