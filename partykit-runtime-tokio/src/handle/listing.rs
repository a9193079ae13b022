use partykit_core::{RoomId, RoomPhase, RoomStats};
use serde::Serialize;

/// A room in a list: see [`Handle::rooms`](crate::Handle::rooms).
///
/// ```
/// use partykit_core::CallError;
/// use partykit_runtime_tokio::{Handle, RoomListing};
///
/// async fn busiest(handle: &Handle) -> Result<Option<RoomListing>, CallError> {
///     let loaded = handle.loaded_rooms("chat", None, usize::MAX)?;
///     Ok(loaded.into_iter().max_by_key(|room| room.connections))
/// }
/// # let _ = busiest;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RoomListing {
    /// Its id.
    pub id: RoomId,
    /// Whether it has an instance. `None` if it is not in memory: it stores something, and no client is
    /// connected.
    pub phase: Option<RoomPhase>,
    /// Listed connections.
    pub connections: usize,
}

impl RoomListing {
    pub(super) fn stored(id: RoomId) -> Self {
        Self { id, phase: None, connections: 0 }
    }

    pub(super) fn loaded(id: RoomId, stats: &RoomStats) -> Self {
        Self { id, phase: Some(stats.phase), connections: stats.connections }
    }
}
