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
    /// An alarm cannot be set for so late a moment.
    #[error("an alarm rings {max} ms after the Unix epoch at the latest, not at {0}", max = limits::ALARM)]
    AlarmTooLate(Timestamp),
    /// The store failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// One handler may not write this many bytes.
    #[error("a handler writes at most {max} bytes, not {0}", max = limits::BATCH)]
    BatchTooLarge(usize),
    /// A key has this many bytes.
    #[error("a key has 1 to {max} bytes, not {0}", max = limits::KEY)]
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
    #[error("the key {key:?} and its value have {size} bytes, at most {max} fit", max = limits::ROW)]
    RowTooLarge {
        /// The key, cut short if it is long.
        key: String,
        /// The bytes of both.
        size: usize,
    },
    /// [`Storage::sync`](crate::Storage::sync) inside of a transaction, which may still be undone.
    #[error("sync inside of a transaction")]
    SyncInTransaction,
    /// The code of a transaction went on after the one around it had ended.
    #[error("a transaction went on after the one around it had ended: await it inside of that one")]
    TransactionEnded,
    /// One call may not name this many keys.
    #[error("a call takes at most {max} keys, not {0}", max = limits::KEYS)]
    TooManyKeys(usize),
}
