//! The api crate; see ARCHITECTURE.md.
