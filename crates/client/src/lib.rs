//! The client crate; see ARCHITECTURE.md.
