//! The journal crate; see ARCHITECTURE.md.
