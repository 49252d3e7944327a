//! Which node takes an instance: a snapshot and a request in, a choice out.
//!
//! Invariant: choosing changes nothing, and the choice depends only on what the [`Pool`] holds,
//! not on how it came to hold it. Ties are broken by id. All arithmetic is on integers.
//!
//! The policy is to spread. Among the nodes that are open, meet all constraints and have room,
//! [`choose`] takes the one with the greatest free share: the lesser of its free memory and free
//! processor share, each in parts of what the node has. Of equals, it takes the lowest id.
//!
//! [`choose`] says only that nothing fits, because a full cluster asks it often. [`explain`] looks
//! at every node and says why; call it when somebody will read the answer.

mod choose;
mod pool;
mod ranking;
mod refusal;

pub use choose::{Request, choose, eligible};
pub use pool::{ALLOWANCE_PREFIX, NODE_LABEL, Pool, PoolNode};
pub use refusal::{Refusal, explain};
