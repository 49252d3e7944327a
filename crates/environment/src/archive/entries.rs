//! Reads tar archives: ustar, GNU and pax (POSIX.1-2008), with sparse files of all four forms.
//!
//! Everything in an archive may be made by an enemy: all that is held in memory has a limit.

use std::ffi::OsString;
use std::io::{self, BufRead};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use tar::{EntryType, Header, PaxExtensions};

use super::unpack::{UnpackError, UnpackLimits};
use crate::layer::Attributes;
use crate::limits::{ARCHIVE_HEADER_BYTES_MAX, ARCHIVE_PIECES_MAX};

const BLOCK: u64 = 512;

/// The entries of an archive.
pub(crate) struct Entries<'a> {
    from: &'a mut dyn BufRead,
    limits: UnpackLimits,
    count: u64,
    size_bytes: u64,
    /// Bytes of the entry's data that were not read, and of the padding after it.
    left: u64,
    padding: u64,
    /// Where in the archive the next byte is.
    position: u64,
}

/// One entry. Its data follows in [`Entries::read_data`].
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) kind: EntryKind,
    pub(crate) attributes: Attributes,
    /// Whether it had the capability of a file, which no sandbox would honour.
    pub(crate) had_capability: bool,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Folder,
    /// The size of the file, and where in it the data belongs, if not one after the other.
    File(u64, Option<Vec<(u64, u64)>>),
    HardLink(PathBuf),
    Link(OsString),
    Pipe,
    /// A device or something that only one program knows, by its name.
    Other(&'static str),
}

/// What precedes an entry and is about it.
#[derive(Default)]
struct About {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<(i64, u32)>,
    xattrs: Vec<(OsString, Vec<u8>)>,
    had_capability: bool,
    sparse: Sparse,
}

/// What pax headers say of a sparse file.
#[derive(Default)]
struct Sparse {
    major: Option<u64>,
    size: Option<u64>,
    name: Option<Vec<u8>>,
    pieces: Vec<(u64, u64)>,
    offset: Option<u64>,
    is: bool,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(from: &'a mut dyn BufRead, limits: UnpackLimits) -> Entries<'a> {
        Entries { from, limits, count: 0, size_bytes: 0, left: 0, padding: 0, position: 0 }
    }

    /// The next entry; what was not read of the one before is passed over. `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, UnpackError> {
        let mut about = About::default();
        loop {
            self.skip(self.left)?;
            // Some tools (umoci's `insert`) end an archive with the last byte of the last file.
            let padding = self.skip(self.padding);
            (self.left, self.padding) = (0, 0);
            match padding {
                Err(UnpackError::Truncated(_)) => return Ok(None),
                other => other?,
            }
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|_| self.broken("a size is no number"))?;
            self.count += 1;
            if self.count > self.limits.entries_max {
                return Err(UnpackError::TooMany(self.limits.entries_max));
            }
            match header.entry_type() {
                EntryType::GNULongName => about.path = Some(self.text(size)?),
                EntryType::GNULongLink => about.link = Some(self.text(size)?),
                EntryType::XHeader => {
                    let bytes = self.small(size)?;
                    about.read(&bytes).map_err(|reason| self.broken(reason))?;
                }
                EntryType::XGlobalHeader => {
                    self.small(size)?;
                }
                _ => return self.entry(&header, size, about).map(Some),
            }
        }
    }

    /// Gives the data of the current entry, piece by piece, to `take`.
    pub(crate) fn read_data<E: From<UnpackError>>(
        &mut self,
        take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while self.left > 0 {
            let buffer = self.from.fill_buf().map_err(UnpackError::Read)?;
            if buffer.is_empty() {
                return Err(UnpackError::Truncated(self.position).into());
            }
            let count = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            take(&buffer[..count])?;
            self.from.consume(count);
            self.left -= count as u64;
            self.position += count as u64;
        }
        Ok(())
    }

    /// Where the data of the current entry begins in the archive.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Reads what follows the end, so that the digest of all can be known.
    pub(crate) fn drain(&mut self) -> Result<(), UnpackError> {
        loop {
            let buffer = self.from.fill_buf().map_err(UnpackError::Read)?;
            let count = buffer.len();
            if count == 0 {
                return Ok(());
            }
            self.from.consume(count);
        }
    }

    fn header(&mut self) -> Result<Option<Header>, UnpackError> {
        let mut block = [0_u8; BLOCK as usize];
        // One block of zeros is the end for all tools; the second may be missing.
        if !self.block(&mut block)? || block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The checksum counts itself as spaces.
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        let own: u32 = block[148..156].iter().map(|byte| u32::from(*byte)).sum();
        let header = Header::from_byte_slice(&block).clone();
        if header.cksum().ok() != Some(sum - own + 8 * 32) {
            return Err(self.broken("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    /// Reads one block; `false` if there is none.
    fn block(&mut self, block: &mut [u8; BLOCK as usize]) -> Result<bool, UnpackError> {
        let mut count = 0;
        while count < block.len() {
            match self.from.read(&mut block[count..]) {
                Ok(0) if count == 0 => return Ok(false),
                Ok(0) => return Err(UnpackError::Truncated(self.position)),
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(UnpackError::Read(error)),
            }
        }
        self.position += BLOCK;
        Ok(true)
    }

    fn skip(&mut self, mut bytes: u64) -> Result<(), UnpackError> {
        while bytes > 0 {
            let buffer = self.from.fill_buf().map_err(UnpackError::Read)?;
            if buffer.is_empty() {
                return Err(UnpackError::Truncated(self.position));
            }
            let count = buffer.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
            self.from.consume(count);
            bytes -= count as u64;
            self.position += count as u64;
        }
        Ok(())
    }

    /// The data of an entry that is about the next one.
    fn small(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        if size > ARCHIVE_HEADER_BYTES_MAX {
            return Err(self.broken("an extended header is larger than 1 MiB"));
        }
        self.left = size;
        self.padding = padding(size);
        let mut bytes = Vec::new();
        self.read_data(&mut |part| {
            bytes.extend_from_slice(part);
            Ok::<_, UnpackError>(())
        })?;
        Ok(bytes)
    }

    fn text(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        let mut bytes = self.small(size)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        Ok(bytes)
    }

    fn entry(
        &mut self,
        header: &Header,
        size: u64,
        mut about: About,
    ) -> Result<Entry, UnpackError> {
        let number = |it: io::Result<u64>| it.unwrap_or(0);
        let size = about.size.unwrap_or(size);
        let path = about.sparse.name.take().or_else(|| about.path.take());
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = about.link.take();
        let link = link.or_else(|| header.link_name_bytes().map(|it| it.into_owned()));
        let link = OsString::from_vec(link.unwrap_or_default());
        if path.contains(&0) || link.as_bytes().contains(&0) {
            return Err(self.broken("a name has a NUL byte"));
        }
        let seconds = i64::try_from(number(header.mtime())).unwrap_or(0);
        let attributes = Attributes {
            mode: header.mode().unwrap_or(0) & 0o7777,
            uid: about.uid.unwrap_or_else(|| number(header.uid())),
            gid: about.gid.unwrap_or_else(|| number(header.gid())),
            modified: about.modified.unwrap_or((seconds, 0)),
            xattrs: std::mem::take(&mut about.xattrs),
        };
        self.left = size;
        self.padding = padding(size);
        let kind = match header.entry_type() {
            // Before POSIX, a folder was a file whose name ends so.
            EntryType::Regular if path.ends_with(b"/") => EntryKind::Folder,
            EntryType::Regular | EntryType::Continuous => self.file(size, about.sparse)?,
            EntryType::GNUSparse => self.gnu_sparse(header)?,
            EntryType::Directory => EntryKind::Folder,
            EntryType::Link => EntryKind::HardLink(PathBuf::from(link)),
            EntryType::Symlink => EntryKind::Link(link),
            EntryType::Fifo => EntryKind::Pipe,
            EntryType::Char => EntryKind::Other("a character device"),
            EntryType::Block => EntryKind::Other("a block device"),
            _ => EntryKind::Other("of a kind that only one program knows"),
        };
        // Whatever their size says, these have no data (POSIX.1-2008, pax, ustar interchange).
        if matches!(kind, EntryKind::Link(_) | EntryKind::Folder | EntryKind::Pipe) {
            (self.left, self.padding) = (0, 0);
        }
        if let EntryKind::File(size, pieces) = &kind {
            self.account(*size, pieces.as_deref())?;
        }
        let path = PathBuf::from(OsString::from_vec(path));
        let had_capability = about.had_capability;
        Ok(Entry { path, kind, attributes, had_capability })
    }

    /// Counts what a file takes on the disk, which for a sparse one is its data.
    fn account(&mut self, size: u64, pieces: Option<&[(u64, u64)]>) -> Result<(), UnpackError> {
        self.size_bytes = self.size_bytes.saturating_add(self.left);
        if self.size_bytes > self.limits.bytes_max {
            return Err(UnpackError::TooLarge(self.limits.bytes_max));
        }
        let Some(pieces) = pieces else { return Ok(()) };
        let mut end = 0;
        let mut sum = 0_u64;
        for (offset, length) in pieces {
            if *offset < end || offset.checked_add(*length).is_none_or(|end| end > size) {
                return Err(self.broken("the pieces of a sparse file do not fit it"));
            }
            end = offset + length;
            sum += length;
        }
        if sum != self.left || size > self.limits.bytes_max {
            return Err(self.broken("the pieces of a sparse file do not fit its data"));
        }
        Ok(())
    }

    fn file(&mut self, size: u64, sparse: Sparse) -> Result<EntryKind, UnpackError> {
        if !sparse.is {
            return Ok(EntryKind::File(size, None));
        }
        let real = sparse.size.ok_or_else(|| self.broken("a sparse file has no size"))?;
        let pieces = match sparse.major {
            Some(1) => self.map_in_data()?,
            _ => sparse.pieces,
        };
        Ok(EntryKind::File(real, Some(pieces)))
    }

    /// The map of a sparse file of pax form 1.0: decimal numbers, one a line, before the data.
    fn map_in_data(&mut self) -> Result<Vec<(u64, u64)>, UnpackError> {
        let mut text = Vec::new();
        let mut numbers: Vec<u64> = Vec::new();
        let mut wanted = 1;
        while numbers.len() < wanted {
            let mut block = [0_u8; BLOCK as usize];
            if self.left < BLOCK || !self.block(&mut block)? {
                return Err(self.broken("the map of a sparse file is cut off"));
            }
            self.left -= BLOCK;
            text.extend_from_slice(&block);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let number = parse(&text[..end]);
                numbers.push(number.ok_or_else(|| self.broken("a sparse file's map is wrong"))?);
                text.drain(..=end);
                if numbers.len() == 1 {
                    let count = usize::try_from(numbers[0]).unwrap_or(usize::MAX);
                    if count > ARCHIVE_PIECES_MAX {
                        return Err(self.broken("a sparse file has too many pieces"));
                    }
                    wanted = 1 + 2 * count;
                }
                if numbers.len() == wanted {
                    break;
                }
            }
            if text.len() > 2 * BLOCK as usize {
                return Err(self.broken("a sparse file's map is wrong"));
            }
        }
        Ok(numbers[1..].chunks(2).map(|pair| (pair[0], pair[1])).collect())
    }

    /// A sparse file of GNU's old form: the map is in the header and in blocks that follow.
    fn gnu_sparse(&mut self, header: &Header) -> Result<EntryKind, UnpackError> {
        let bytes = header.as_bytes();
        let (mut pieces, size) = (Vec::new(), octal(&bytes[483..495]));
        let size = size.ok_or_else(|| self.broken("a sparse file has no size"))?;
        let mut more = bytes[482] != 0;
        self.take_pieces(&bytes[386..482], &mut pieces)?;
        while more {
            let mut block = [0_u8; BLOCK as usize];
            if !self.block(&mut block)? {
                return Err(UnpackError::Truncated(self.position));
            }
            more = block[504] != 0;
            self.take_pieces(&block[..504], &mut pieces)?;
        }
        Ok(EntryKind::File(size, Some(pieces)))
    }

    fn take_pieces(&self, from: &[u8], to: &mut Vec<(u64, u64)>) -> Result<(), UnpackError> {
        for piece in from.chunks_exact(24).filter(|piece| piece[0] != 0) {
            let (Some(offset), Some(length)) = (octal(&piece[..12]), octal(&piece[12..])) else {
                return Err(self.broken("a sparse file's map is wrong"));
            };
            to.push((offset, length));
        }
        if to.len() > ARCHIVE_PIECES_MAX {
            return Err(self.broken("a sparse file has too many pieces"));
        }
        Ok(())
    }

    fn broken(&self, reason: &'static str) -> UnpackError {
        UnpackError::Broken { reason, position: self.position }
    }
}

impl About {
    /// Takes the records of a pax header.
    fn read(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        for record in PaxExtensions::new(bytes) {
            let record = record.map_err(|_| "a pax header is malformed")?;
            let (key, value) = (record.key_bytes(), record.value_bytes());
            let number = || parse(value).ok_or("a number of a pax header is none");
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number()?),
                b"uid" => self.uid = Some(number()?),
                b"gid" => self.gid = Some(number()?),
                b"mtime" => self.modified = Some(time(value).ok_or("a time is none")?),
                b"GNU.sparse.major" => {
                    (self.sparse.major, self.sparse.is) = (Some(number()?), true)
                }
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                    (self.sparse.size, self.sparse.is) = (Some(number()?), true);
                }
                b"GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
                b"GNU.sparse.offset" => self.sparse.offset = Some(number()?),
                b"GNU.sparse.numbytes" => {
                    let offset = self.sparse.offset.take().ok_or("a sparse map is wrong")?;
                    self.sparse.pieces.push((offset, number()?));
                }
                b"GNU.sparse.map" => self.sparse.pieces = map(value).ok_or("a map is wrong")?,
                b"SCHILY.xattr.security.capability" => self.had_capability = true,
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.push((OsString::from_vec(name.to_vec()), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

fn parse(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Seconds with a fraction.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = seconds.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    Some(match seconds.starts_with('-') && nanoseconds > 0 {
        true => (whole.checked_sub(1)?, 1_000_000_000 - nanoseconds),
        false => (whole, nanoseconds),
    })
}

fn map(text: &[u8]) -> Option<Vec<(u64, u64)>> {
    let numbers: Option<Vec<u64>> = text.split(|byte| *byte == b',').map(parse).collect();
    let numbers = numbers.filter(|it| it.len() % 2 == 0 && it.len() <= 2 * ARCHIVE_PIECES_MAX)?;
    Some(numbers.chunks(2).map(|pair| (pair[0], pair[1])).collect())
}

/// A number of a header: octal digits, or binary if the highest bit is set.
fn octal(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        let (head, tail) = field.split_at(field.len() - 8);
        let high =
            head.iter().enumerate().all(|(at, byte)| *byte == if at == 0 { 0x80 } else { 0 });
        return high.then(|| u64::from_be_bytes(tail.try_into().expect("8 bytes")));
    }
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches(|it| it == ' ' || it == '\0');
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}
