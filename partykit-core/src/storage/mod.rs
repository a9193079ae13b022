mod backend;
mod faulty;
#[allow(dead_code, reason = "the storage handle reads through it")]
mod layers;
mod memory;

pub use backend::{Backend, BackendError, Batch, Claim, Epoch, KeyRange};
pub use faulty::FaultyBackend;
pub use memory::MemoryBackend;
