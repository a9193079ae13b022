use std::time::Duration;

use crate::{Refusal, RoomAddress};

/// Why a call to another room failed.
///
/// ```
/// use partykit_core::{Body, CallError, Request, Response, Room};
///
/// async fn ask(room: &Room) -> Result<Option<Response>, CallError> {
///     match room.party("counter").room("all").request(Request::new(Body::empty())).await {
///         Ok(answer) => Ok(Some(answer)),
///         Err(CallError::Timeout(..) | CallError::Refused(..)) => Ok(None),
///         Err(error) => Err(error),
///     }
/// }
/// # let _ = ask;
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The handler has uncommitted writes. Call before you write, or [`Storage::sync`](crate::Storage::sync)
    /// before calling: the called room must not learn of writes that may still be rolled back.
    #[error(
        "the call to {0} was refused because of uncommitted writes: call before you write, or call storage().sync() first"
    )]
    UncommittedWrites(RoomAddress),
    /// The called room already waits for this one, itself or through others.
    #[error("the call to {0} was refused: that room already waits for this one")]
    Cycle(RoomAddress),
    /// No party of this name is registered.
    #[error("no party has the name {0:?}")]
    UnknownParty(String),
    /// The room's id is not valid.
    #[error(transparent)]
    InvalidRoom(#[from] crate::InvalidRoomId),
    /// The Close for a connection cannot be sent.
    #[error(transparent)]
    InvalidClose(#[from] crate::InvalidClose),
    /// No answer within [`Options::call_timeout`](crate::Options::call_timeout). This says nothing
    /// about what the called room did.
    #[error("no answer from {0} within {1:?}")]
    Timeout(RoomAddress, Duration),
    /// The called room did not answer.
    #[error("{0}: {1}")]
    Refused(RoomAddress, Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::BackendError),
    /// The call had to wait for a commit, and the commit failed.
    #[error("the writes before the call to {0} could not be stored")]
    CommitFailed(RoomAddress),
}
