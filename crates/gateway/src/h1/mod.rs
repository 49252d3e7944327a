//! HTTP/1.1 between a client and an instance.
//!
//! This is a protocol engine of its own because of two demands that no library meets together:
//! requests that could be smuggled must be refused, for which the bytes must be seen before
//! anybody has tidied them, and a request must cost about what it costs in the proxies that
//! people use. One task carries a client's connection and that to the instance; between the two
//! reads and the two writes of a small exchange nothing else wakes up.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod connection;
mod exchange;
pub(crate) mod head;
pub(crate) mod side;
mod tunnel;
