//! The controller's state machine: `admit`, `apply`, `poll_timeout`.
//!
//! Invariant: pure. Nothing here reads a clock, draws a random number, waits, or touches a file or
//! a socket; [`apply()`] cannot fail. Time and ids come in as arguments and stay in the records.
//!
//! How a command travels:
//!
//! 1. [`admit()`] checks a [`Command`] against the [`State`] and answers with a [`Record`], the
//!    fact that it would make true, or with a [`Rejection`].
//! 2. [`apply()`] makes the record true and returns [`Effect`]s: orders to nodes, and an event.
//! 3. [`decide`] looks at what is due (a timer, a pending instance, a service that lacks a
//!    replica) and answers with the next record, until there is none.
//! 4. The [`Sequencer`] puts these together: it holds replies and effects back until the batch of
//!    records that they rest on is durable.
//!
//! The controller drives the sequencer with a real journal and real links, the simulator with
//! simulated ones. Neither decides anything.

pub mod access;
pub mod admit;
mod allowances;
pub mod apply;
pub mod command;
pub mod decide;
pub mod diff;
pub mod event;
mod keys;
mod outbox;
mod owners;
pub mod record;
pub mod sequencer;
pub mod state;
pub mod terms;

pub use access::{Access, Revoked, RevokedSubject, TokenEntry};
pub use admit::{admit, secrets_of};
pub use apply::{Effect, apply};
pub use command::{Command, IdempotencyKey, Ids, Rejection, Reply, SessionSource, TokenRequest};
pub use decide::decide;
pub use diff::{Difference, diff};
pub use event::Event;
pub use record::{Change, Record, SecretHash};
pub use sequencer::{Batch, Input, Output, Sequencer};
pub use state::State;
