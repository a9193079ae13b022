//! What the fuzz targets do with their input. `cargo xtask fuzz` gives it to libFuzzer (the targets
//! stand in `fuzz/libfuzzer`); `cargo test` runs the same as property tests.
//!
//! Each takes any input and panics when something does not hold. The frames of a WebSocket have
//! theirs in `partykit-runtime-tokio`, which shows its codec to nobody.
#![forbid(unsafe_code)]

mod list;
mod machine;
mod route;

pub use list::{Key, ListStep, Query, list};
pub use machine::{RoomStep, machine};
pub use route::{Url, route};
