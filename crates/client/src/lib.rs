//! The client library: every route of the HTTP API as a typed method.
//!
//! [`Client`] is cheap to clone and keeps its connections. Errors are [`ClientError`], whose
//! [`kind`](ClientError::kind) says what to branch on and whose [`hint`](ClientError::hint) says
//! what to do. Logs and events are streams that connect again by themselves and go on where they
//! were: nothing is missed and nothing is seen twice.
//!
//! Invariant: what the CLI uses, and nothing hidden. Nothing here prints, and no error or log
//! holds the token.

mod attach;
mod build;
mod client;
mod content;
mod environments;
mod error;
mod files;
mod instances;
mod nodes;
mod query;
mod secrets;
mod sse;
mod stream;
mod token;
mod tokens;
mod workloads;

pub use attach::{AttachItem, AttachedInput, Attachment};
pub use build::{BuildItem, BuildStream};
pub use client::Client;
pub use content::ExportFormat;
pub use error::{ClientError, ErrorKind};
pub use files::{FileContent, FileWatch};
pub use instances::{InstanceQuery, Instances};
pub use spawnery_wire::api;
pub use stream::{EventItem, EventStream, LogItem, LogQuery, LogStream};
pub use token::Token;
