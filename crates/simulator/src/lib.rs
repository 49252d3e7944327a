//! The simulator crate; see ARCHITECTURE.md.
