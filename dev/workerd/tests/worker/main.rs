//! The build path and the harness, with a Worker that has no runtime (`../fixture`), and an example that
//! stores.
//!
//! All of it needs `workerd`, which a checkout has only after `cargo xtask setup`: `cargo xtask workerd`
//! builds the fixture and runs what is ignored otherwise.

mod board;
mod crowd;
mod failing;
mod sleeping;
mod support;
mod unwinding;
mod wrangler;
