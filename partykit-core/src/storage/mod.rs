mod backend;

pub use backend::{Backend, BackendError, Batch, Claim, Epoch, KeyRange};
