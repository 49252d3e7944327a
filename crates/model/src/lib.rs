//! The nouns of Spawnery: ids, quantities, workloads, instances, nodes, and every limit with its
//! reason.
//!
//! Invariant: plain data. Nothing here decides, reads a clock, draws a random number or touches
//! a file. Every type has two encodings, both derived where the type is declared so that neither
//! can be forgotten: CBOR with numbered fields (journal and links; a number is never reused and a
//! new field is an `Option`), and JSON (the HTTP API).

pub mod environment;
pub mod exchange;
pub mod id;
pub mod instance;
pub mod limits;
pub mod node;
pub mod quantity;
pub mod session;
pub mod surroundings;
pub mod workload;

pub use environment::{
    Base, ContentDigest, DigestError, Environment, EnvironmentFile, EnvironmentLock, GitReference,
    Local, LockedPackage, Python, Source,
};
pub use exchange::{
    Introduction, Observation, Observed, Order, Orders, Report, SessionOrder, StartOrder, Want,
    WarmPool,
};
pub use id::{Id, IdParseError, InstanceId, Name, NameError, NodeId, RunId};
pub use instance::{End, EndReason, Exit, Instance, LimitReached, Origin, Phase, StopCause};
pub use node::{Capacity, Node, NodeStatus};
pub use quantity::{Bytes, CpuMillis, DurationMs, Timestamp};
pub use session::{
    Access, Notice, OwnerLimits, Readiness, Session, SessionLimits, SessionSettings, SessionTerms,
    Warned, WarningCause, Warnings,
};
pub use surroundings::{
    Allowances, Egress, EgressRule, HostMount, RuntimeKind, SecretUse, Surroundings, User,
    VolumeMount,
};
pub use workload::{
    Constraint, ConstraintOperator, File, JobSettings, Kind, Missed, Network, Overlap, Port,
    Process, Replicas, Restart, RestartPolicy, Schedule, ServiceSettings, Stop, Workload,
};
