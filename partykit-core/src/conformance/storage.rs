//! What every storage [`Backend`] has to do: its [contract](Backend#contract), line by line.
//!
//! [`all`] runs every case on a store of its own. The cases take their rooms by names that differ
//! from case to case, so that they also run on one shared store, if no room of those names was
//! claimed in it before. [`persistence`] and [`random_failures`] stand apart, as they need more than
//! a store.
//!
//! ```
//! use std::sync::Arc;
//!
//! use partykit_core::{MemoryBackend, conformance};
//!
//! futures_executor::block_on(conformance::storage::all(async || {
//!     Arc::new(MemoryBackend::default())
//! }));
//! ```

mod claims;
mod holder;
mod random;
mod rooms;
mod rows;
mod wake_ups;

use std::sync::Arc;

pub use claims::{cancellation, claims, concurrency, fencing, persistence};
pub use random::{random_failures, random_operations};
pub use rooms::{room_pages, rooms};
pub use rows::{batches, order, ranges, reads, separation};
pub use wake_ups::{wake_up_pages, wake_ups};

use crate::Backend;

/// Runs every case that needs no more than a store, each on a fresh one from `open`. See the
/// [module](self) for an example.
///
/// # Panics
///
/// When a backend breaks its contract, and when a call fails that had no reason to.
pub async fn all<B: Backend + ?Sized>(open: impl AsyncFn() -> Arc<B>) {
    order(&*open().await).await;
    reads(&*open().await).await;
    ranges(&*open().await).await;
    batches(&*open().await).await;
    claims(&*open().await).await;
    fencing(&*open().await).await;
    separation(&*open().await).await;
    concurrency(&*open().await).await;
    cancellation(&*open().await).await;
    wake_ups(&*open().await).await;
    wake_up_pages(&*open().await).await;
    rooms(&*open().await).await;
    room_pages(&*open().await).await;
    for seed in 0..4 {
        random_operations(&*open().await, seed).await;
    }
}
