//! The schedule crate; see ARCHITECTURE.md.
