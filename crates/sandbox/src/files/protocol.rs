//! What is said over the socket of a file server: one request, one answer, and for some bytes in
//! between. A frame is a little-endian `u32` length and that many bytes of CBOR.

use minicbor::{Decode, Encode};

/// Bytes of one frame: a page of entries with the longest names is smaller.
pub const FILE_FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Entries of a folder in one answer.
pub const FILE_ENTRIES_MAX: u32 = 1000;

/// Bytes of a path (`PATH_MAX` of `limits.h`, with its end).
pub const FILE_PATH_BYTES_MAX: usize = 4096;

/// Bytes of one chunk: see [`FileRequest::Write`].
pub const FILE_CHUNK_BYTES_MAX: usize = 256 * 1024;

/// What is wanted. Paths are absolute; each is resolved by the kernel inside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum FileRequest {
    /// Tells what is at a path, without following it if it is a link: [`FileReply::Info`].
    #[n(0)]
    Stat {
        /// Where.
        #[n(0)]
        path: String,
    },
    /// Tells what is in a folder: [`FileReply::Entries`].
    #[n(1)]
    List {
        /// Where.
        #[n(0)]
        path: String,
        /// Only what comes after this name.
        #[n(1)]
        after: Option<String>,
        /// How many at most.
        #[n(2)]
        limit: u32,
    },
    /// Reads a file: [`FileReply::Content`] and so many bytes.
    #[n(2)]
    Read {
        /// Where.
        #[n(0)]
        path: String,
        /// Which part; all of it, if none is given.
        #[n(1)]
        range: Option<FileRange>,
    },
    /// Writes a file from chunks, each of which is a little-endian `u32` length and that many bytes;
    /// an empty one is the end. Then [`FileReply::Info`]. Missing folders are made.
    #[n(3)]
    Write {
        /// Where.
        #[n(0)]
        path: String,
        /// Where in the file; without, the file is replaced, and until the end the old one stays.
        #[n(1)]
        offset: Option<u64>,
        /// Its permission bits; those that it has, or 0644, if none are given.
        #[n(2)]
        mode: Option<u32>,
    },
    /// Makes a folder, and those above it; one that is there will do: [`FileReply::Info`].
    #[n(4)]
    MakeFolder {
        /// Where.
        #[n(0)]
        path: String,
        /// Its permission bits.
        #[n(1)]
        mode: Option<u32>,
    },
    /// Removes what is at a path: [`FileReply::Done`].
    #[n(5)]
    Remove {
        /// Where.
        #[n(0)]
        path: String,
        /// Also a folder with all that is in it.
        #[n(1)]
        recursive: bool,
    },
    /// Moves or renames what is at a path: [`FileReply::Info`].
    #[n(6)]
    Move {
        /// From where.
        #[n(0)]
        path: String,
        /// To where.
        #[n(1)]
        to: String,
        /// Whether what is there may be replaced.
        #[n(2)]
        replace: bool,
    },
    /// Changes permission bits: [`FileReply::Info`].
    #[n(7)]
    SetMode {
        /// Where.
        #[n(0)]
        path: String,
        /// The bits.
        #[n(1)]
        mode: u32,
    },
    /// Packs a file or a folder: [`FileReply::Info`], a tar in chunks, [`FileReply::Done`].
    #[n(8)]
    Pack {
        /// Where.
        #[n(0)]
        path: String,
    },
    /// Unpacks a tar, which comes in chunks, into a folder, which is made; then
    /// [`FileReply::Info`]. Nothing of it comes to lie outside of the folder.
    #[n(9)]
    Unpack {
        /// Where.
        #[n(0)]
        path: String,
    },
    /// Tells what happens to a file, or in a folder: [`FileReply::Done`], then a
    /// [`FileReply::Event`] for each thing, until the socket is closed.
    #[n(10)]
    Watch {
        /// Where.
        #[n(0)]
        path: String,
        /// Also in all folders below.
        #[n(1)]
        recursive: bool,
    },
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum FileRange {
    /// From an offset on.
    #[n(0)]
    From {
        /// The first byte.
        #[n(0)]
        offset: u64,
        /// How many bytes at most.
        #[n(1)]
        length_max: Option<u64>,
    },
    /// The end.
    #[n(1)]
    Last {
        /// How many bytes at most.
        #[n(0)]
        length_max: u64,
    },
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum FileReply {
    /// It is done.
    #[n(0)]
    Done,
    /// What is there.
    #[n(1)]
    Info(#[n(0)] FileInfo),
    /// What is in a folder.
    #[n(2)]
    Entries {
        /// By name.
        #[n(0)]
        entries: Vec<FileInfo>,
        /// Whether there are more.
        #[n(1)]
        more: bool,
    },
    /// Bytes of a file follow.
    #[n(3)]
    Content {
        /// The file.
        #[n(0)]
        info: FileInfo,
        /// The first byte.
        #[n(1)]
        offset: u64,
        /// How many follow.
        #[n(2)]
        length: u64,
    },
    /// Something happened.
    #[n(4)]
    Event(#[n(0)] FileEvent),
    /// It cannot be done.
    #[n(5)]
    Failed {
        /// The kind of obstacle.
        #[n(0)]
        kind: FileErrorKind,
        /// In words.
        #[n(1)]
        reason: String,
    },
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FileInfo {
    /// Its last name; what is not UTF-8 in it is replaced. `/` for the root.
    #[n(0)]
    pub name: String,
    /// What it is.
    #[n(1)]
    pub kind: FileKind,
    /// Its length; of anything but a file, what the system says.
    #[n(2)]
    pub size_bytes: u64,
    /// Its permission bits.
    #[n(3)]
    pub mode: u32,
    /// The user inside whom it belongs to.
    #[n(4)]
    pub uid: u32,
    /// The group inside that it belongs to.
    #[n(5)]
    pub gid: u32,
    /// When its content was changed last, in milliseconds since the Unix epoch.
    #[n(6)]
    pub modified_ms: u64,
    /// Where it leads, if it is a link.
    #[n(7)]
    pub target: Option<String>,
}

/// What something in a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum FileKind {
    /// A regular file.
    #[n(0)]
    File,
    /// A folder.
    #[n(1)]
    Folder,
    /// A symbolic link.
    #[n(2)]
    Link,
    /// A pipe, a socket or a device.
    #[n(3)]
    Special,
}

/// Something that happened to a file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FileEvent {
    /// What.
    #[n(0)]
    pub kind: FileEventKind,
    /// To what.
    #[n(1)]
    pub path: String,
    /// Of a move: where it was, if it was in what is watched.
    #[n(2)]
    pub from: Option<String>,
}

/// What can happen to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum FileEventKind {
    /// It came to be, or was moved here from elsewhere.
    #[n(0)]
    Created,
    /// Its content was changed, and whoever did it has closed it.
    #[n(1)]
    Modified,
    /// Its permissions, owner or time were changed.
    #[n(2)]
    Attributes,
    /// It was removed, or moved elsewhere.
    #[n(3)]
    Removed,
    /// It was moved within what is watched.
    #[n(4)]
    Moved,
    /// More happened than could be told: look anew.
    #[n(5)]
    Missed,
}

/// Why something cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum FileErrorKind {
    /// There is nothing at the path.
    #[n(0)]
    NotFound,
    /// It is a folder.
    #[n(1)]
    IsFolder,
    /// It, or something above it, is no folder.
    #[n(2)]
    NotFolder,
    /// It is neither a file nor a folder.
    #[n(3)]
    Special,
    /// There is something already.
    #[n(4)]
    Exists,
    /// The folder is not empty.
    #[n(5)]
    NotEmpty,
    /// The user inside may not.
    #[n(6)]
    Denied,
    /// There is no space left.
    #[n(7)]
    NoSpace,
    /// The file has no such part.
    #[n(8)]
    Range,
    /// The request makes no sense, such as a path that is not absolute.
    #[n(9)]
    Invalid,
    /// Anything else.
    #[n(10)]
    Other,
}

/// The bytes of a frame.
pub fn encode_file_frame<M: Encode<()>>(message: &M) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    minicbor::encode(message, &mut bytes).expect("writing to a Vec cannot fail");
    let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// The length of the frame that begins so; none if it is beyond the limit.
pub fn file_frame_length(head: [u8; 4]) -> Option<usize> {
    let length = u32::from_le_bytes(head) as usize;
    (length <= FILE_FRAME_BYTES_MAX).then_some(length)
}

/// The message in the bytes of a frame; none if it is not understood.
pub fn decode_file_frame<M: for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Option<M> {
    minicbor::decode(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_comes_back_as_it_went() {
        let request = FileRequest::Read {
            path: "/a".into(),
            range: Some(FileRange::From { offset: 3, length_max: None }),
        };
        let bytes = encode_file_frame(&request);
        let (head, body) = bytes.split_first_chunk().expect("a head");
        assert_eq!(file_frame_length(*head), Some(body.len()));
        assert_eq!(decode_file_frame(body), Some(request));
        assert_eq!(file_frame_length([255; 4]), None);
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes: Vec<u8>) {
            let _ = decode_file_frame::<FileRequest>(&bytes);
            let _ = decode_file_frame::<FileReply>(&bytes);
        }
    }
}
