//! The agent crate; see ARCHITECTURE.md.

pub mod link;
