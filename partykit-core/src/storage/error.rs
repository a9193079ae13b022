use super::backend::BackendError;
use crate::{JsonError, Timestamp, value::limits};

/// Why a call to [`Storage`](crate::Storage) failed.
///
/// ```
/// use partykit_core::{Room, StorageError};
///
/// fn save(room: &Room, document: &str) -> Result<bool, StorageError> {
///     match room.storage().put("document", document) {
///         Err(StorageError::RowTooLarge { .. }) => Ok(false),
///         result => result.map(|()| true),
///     }
/// }
/// # let _ = save;
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// An alarm cannot be set for this late moment.
    #[error("an alarm rings at most {max} ms after the Unix epoch, not at {0}", max = limits::ALARM)]
    AlarmTooLate(Timestamp),
    /// The store failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// One handler may not write this many bytes.
    #[error("the handler would write {0} bytes; at most {max} fit", max = limits::BATCH)]
    BatchTooLarge(usize),
    /// A key has this many bytes.
    #[error("a key has 1 to {max} bytes, this one has {0}", max = limits::KEY)]
    InvalidKey(usize),
    /// A value has no JSON form, or not the one that was asked for.
    #[error("the value of {key:?}: {source}")]
    Json {
        /// The key, cut short if it is long.
        key: String,
        /// What is wrong with it.
        source: JsonError,
    },
    /// A key and its value are too large together.
    #[error("the key {key:?} and its value have {size} bytes; at most {max} fit", max = limits::ROW)]
    RowTooLarge {
        /// The key, cut short if it is long.
        key: String,
        /// The bytes of both.
        size: usize,
    },
    /// [`Storage::sync`](crate::Storage::sync) inside of a transaction, which may still be undone.
    #[error("sync was called inside a transaction: call it outside")]
    SyncInTransaction,
    /// The code of a transaction went on after the one around it had ended.
    #[error(
        "a transaction ran on after the one around it had ended: await it inside the outer one"
    )]
    TransactionEnded,
    /// One call may not name this many keys.
    #[error("the call names {0} keys; at most {max} fit", max = limits::KEYS)]
    TooManyKeys(usize),
}
