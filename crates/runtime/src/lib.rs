//! The runtime crate; see ARCHITECTURE.md.
