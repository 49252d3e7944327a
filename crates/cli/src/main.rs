//! The cli crate; see ARCHITECTURE.md.

fn main() {}
