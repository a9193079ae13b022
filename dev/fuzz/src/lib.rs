//! What the fuzz targets do with the bytes they get: from libFuzzer in `cargo xtask fuzz` (the targets
//! stand in `dev/fuzz/libfuzzer`), at random in `cargo test`.
//!
//! Each makes something meaningful of any bytes, and panics when something does not hold. The frames
//! of a WebSocket have theirs in `partykit-runtime-tokio`, which shows its codec to nobody.
#![forbid(unsafe_code)]

mod attachment;
mod document;
mod list;
mod machine;
mod route;
mod transports;

pub use attachment::attachment;
pub use document::{document, frames};
pub use list::list;
pub use machine::machine;
pub use route::route;
pub use transports::transports;

use arbitrary::{Arbitrary, Unstructured};

/// As many values as the bytes make.
fn values<'a, T: Arbitrary<'a>>(bytes: &'a [u8]) -> Vec<T> {
    let mut bytes = Unstructured::new(bytes);
    let mut values = Vec::new();
    while !bytes.is_empty()
        && let Ok(value) = T::arbitrary(&mut bytes)
    {
        values.push(value);
    }
    values
}
