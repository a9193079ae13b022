mod backend;
mod error;
mod faulty;
mod handle;
mod layers;
mod list;
mod memory;
mod row;
mod stream;

pub use backend::{Backend, BackendError, Batch, Claim, Epoch, KeyRange, WakeUp};
pub use error::StorageError;
pub use faulty::FaultyBackend;
pub use handle::Storage;
pub(crate) use handle::durable;
pub(crate) use layers::{Diff, lookup};
pub use list::List;
pub use memory::MemoryBackend;
pub use stream::RowStream;
