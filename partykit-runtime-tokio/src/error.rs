use std::io;

use crate::StoreError;

/// Why a runtime could not serve.
///
/// ```
/// use partykit_runtime_tokio::{Runtime, ServeError};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let error = Runtime::builder().in_memory().serve("256.256.256.256:80").await.unwrap_err();
/// assert!(matches!(error.downcast_ref(), Some(ServeError::Listen(_))));
/// # });
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is none, is taken, or may not be used.
    #[error("cannot listen: {0}")]
    Listen(#[source] io::Error),
    /// The operating system does not let the process wait for signals.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] io::Error),
    /// The directory in which rooms store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}
