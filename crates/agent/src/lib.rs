//! The shell round `node`: links, launcher, logs, statistics.
//!
//! Invariant: decides nothing. [`spawnery_node::Node`] says what to do; here it is done, and what
//! came of it is told back. When an agent ends, nothing else does: its instances live on under the
//! launcher, and the next agent finds them.
//!
//! One task drives the node (`driver`), one keeps the link to the controller (`uplink`), and
//! each stream that the controller opens has a task of its own (`streams`).

pub mod connect;
pub mod link;
pub mod tls;

mod agent;
mod clock;
mod driver;
mod environments;
mod identity;
mod machine;
mod notices;
mod prepare;
mod readiness;
mod streams;
mod uplink;
mod upstream;
mod volumes;

pub use agent::{Agent, AgentError, Config, StartError};
pub use connect::{Connect, Connection, Local};
pub use identity::{IdentityError, SavedIdentity};
pub use machine::{CapacityGiven, MachineError};
pub use spawnery_environment::build::Settings as BuildSettings;
pub use spawnery_runtime::Runtimes;
pub use spawnery_sandbox::spec::Network as BuildNetwork;
pub use tls::{JoinToken, JoinTokenError, Tls, TlsError};
