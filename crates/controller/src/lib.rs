//! The controller crate; see ARCHITECTURE.md.
