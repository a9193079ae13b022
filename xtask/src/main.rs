//! Everything a contributor runs: `cargo xtask help`.
fn main() {}
