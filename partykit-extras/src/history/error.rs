use partykit_core::{JsonError, StorageError};

/// Why a history cannot be read or written.
///
/// ```
/// use partykit_core::Room;
/// use partykit_extras::history::{History, HistoryError};
///
/// async fn has_messages(room: &Room) -> Result<bool, HistoryError> {
///     Ok(History::new().latest(room).await?.is_some())
/// }
/// # let _ = has_messages;
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The message has no JSON form.
    #[error("the message cannot be published: {0}")]
    Json(#[from] JsonError),
    /// A row with the history's prefix is not one of the history: something else writes there.
    #[error("the row {key:?} is no message of the history: use another prefix for one of the two")]
    Row {
        /// The row's key.
        key: String,
    },
    /// The store fails, or the message is too large for it.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
