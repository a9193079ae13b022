mod backend;
mod faulty;
mod handle;
mod layers;
mod memory;

pub use backend::{Backend, BackendError, Batch, Claim, Epoch, KeyRange, WakeUp};
pub use faulty::FaultyBackend;
pub(crate) use handle::durable;
pub use handle::{List, Storage, StorageError};
pub(crate) use layers::{Diff, lookup};
pub use memory::MemoryBackend;
