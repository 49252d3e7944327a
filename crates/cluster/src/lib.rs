//! The cluster crate; see ARCHITECTURE.md.
