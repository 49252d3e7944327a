//! The sandbox crate; see ARCHITECTURE.md.
