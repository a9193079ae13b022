use std::{fmt, io};

use crate::store::StoreError;

/// Why a runtime could not serve.
///
/// ```
/// use partykit_runtime_tokio::{Runtime, ServeError};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let error = Runtime::builder().in_memory().serve("256.256.256.256:80").await.unwrap_err();
/// assert!(matches!(error.downcast_ref(), Some(ServeError::Listen { .. })));
/// assert!(format!("{error:?}").starts_with("cannot listen on \"256.256.256.256:80\": "));
/// # });
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is not valid, is taken, or may not be used.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address, as it was given.
        address: String,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The operating system does not let the process wait for signals.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] io::Error),
    /// The process was to [take over](crate::Handle::hand_over) from another one, and could not. The other one
    /// goes on.
    #[error("cannot take over from the process before: {0}")]
    TakeOver(#[source] io::Error),
    /// The directory of the store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Prints the error's text, as `Display` does: a `main` that returns an error prints this.
impl fmt::Debug for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
