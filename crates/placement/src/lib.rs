//! The placement crate; see ARCHITECTURE.md.
