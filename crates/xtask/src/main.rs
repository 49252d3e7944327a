//! The xtask crate; see ARCHITECTURE.md.

fn main() {}
