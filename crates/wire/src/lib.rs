//! Versioned encodings: what goes over a link between controller and agent, and what the HTTP API
//! speaks.
//!
//! Invariant: layouts only. An unknown field is never fatal, and a number is never reused. The
//! field numbers of the nouns and of the records stand at their types, in `model` and `cluster`;
//! here are the frames and messages around them.

pub mod api;
pub mod frame;
pub mod link;
