//! Files of an instance.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is at a path of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileEntryView {
    /// Its last name; `/` for the root. What is not UTF-8 in it is shown as U+FFFD, and can be had in
    /// an archive of the folder only.
    #[schema(example = "notes.txt")]
    pub name: String,
    /// `file`, `folder`, `link` or `special`: a pipe, a socket or a device.
    #[schema(example = "file")]
    pub kind: String,
    /// Its length, of a file.
    #[schema(example = 1024)]
    pub size_bytes: u64,
    /// Its permissions, in octal.
    #[schema(example = "0644")]
    pub mode: String,
    /// The user inside whom it belongs to.
    #[schema(example = 1000)]
    pub uid: u32,
    /// The group inside that it belongs to.
    #[schema(example = 1000)]
    pub gid: u32,
    /// When its content was changed last, by the clock of its node.
    pub modified_at_ms: u64,
    /// Where it leads, if it is a link.
    pub target: Option<String>,
}

/// Move a file or a folder, or change its permissions. What is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileChangeRequest {
    /// To where it is moved: an absolute path, on the same disk. Missing folders are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "/home/user/old.txt")]
    pub move_to: Option<String>,
    /// Whether what is there may be replaced.
    #[serde(default)]
    pub replace: bool,
    /// Its permissions, in octal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "0600")]
    pub mode: Option<String>,
}

/// Something that happened to a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileEventView {
    /// `created`, `modified`, `attributes`, `removed`, `moved`, or `missed`: more happened than could
    /// be told, look anew.
    #[schema(example = "modified")]
    pub kind: String,
    /// To what.
    #[schema(example = "/home/user/notes.txt")]
    pub path: String,
    /// Of a move: where it was.
    pub from: Option<String>,
}

/// The event types (`event:` lines) of the stream of a watched file.
pub mod file_event {
    /// Everything that happens from here on is told: `{}`.
    pub const READY: &str = "ready";
    /// A [`FileEventView`](super::FileEventView).
    pub const FILE: &str = "file";
    /// What is watched is gone: `{}`. The last one.
    pub const END: &str = "end";
}
