//! What every storage [`Backend`] has to do: its [contract](Backend#contract), line by line.
//!
//! [`all`] runs each case on a store of its own. Each case uses other room names, so the cases also run on
//! one shared store that never had these rooms. [`persistence`] and [`random_failures`] are not in [`all`],
//! because they need more than a store.
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

/// Runs all cases that need only a store, each on a new store from `open`. See the [module](self) for an
/// example.
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
