//! The shell round `cluster`: journal, links, clock.
//!
//! Invariant: it decides nothing. One thread, the engine, owns the [`Sequencer`] and the journal
//! and is the journal's only writer; everything else talks to it through a bounded queue and the
//! [`Controller`] handle.
//!
//! [`Sequencer`]: spawnery_cluster::Sequencer

pub mod access;
mod activity;
mod broker;
mod content;
mod engine;
mod environments;
mod events;
mod handle;
mod history;
mod inside;
mod links;
mod recovery;
mod requests;
mod secret;
mod secrets;
mod statistics;
pub mod tls;
mod vault;

pub use activity::{Activity, AttachError, Ending, Using};
pub use engine::EngineFailure;
pub use environments::{BuildError, BuildStream, NodeEnvironment, NodePruned, VolumeView};
pub use events::{EventCursor, EventItem, EventStart, EventStream};
pub use handle::{Config, Controller, SubmitError};
pub use history::{History, HistoryError, HistoryQuery, PastInstance};
pub use inside::{FileStream, InputRefusal, InputSender, InputStream};
pub use links::{LogStream, StreamError};
pub use recovery::StartError;
pub use secret::{Secret, hash_secret};
pub use secrets::{SecretError, SecretInfo};
pub use statistics::Statistics;
pub use vault::VaultError;
