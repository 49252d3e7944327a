//! The manifest crate; see ARCHITECTURE.md.
