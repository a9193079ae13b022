use std::{fmt, sync::Arc};

use crate::RoomAddress;

/// The rooms that wait for a call, outermost first. A call into one of them is refused, because
/// it could never be answered.
///
/// ```
/// use partykit_core::{RoomAddress, RoomId, runtime::Chain};
///
/// let room = RoomAddress::new("chat", RoomId::new("lobby")?);
/// assert!(!Chain::new().contains(&room));
/// # Ok::<(), partykit_core::InvalidRoomId>(())
/// ```
#[derive(Clone, Default)]
pub struct Chain(Option<Arc<Waiting>>);

struct Waiting {
    room: RoomAddress,
    before: Chain,
}

impl Chain {
    /// An empty chain: the event does not come from a room.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a room that waits. For runtimes whose calls leave the process.
    #[must_use]
    pub fn then(&self, room: RoomAddress) -> Self {
        Self(Some(Arc::new(Waiting { room, before: self.clone() })))
    }

    /// Whether `room` waits in this chain.
    pub fn contains(&self, room: &RoomAddress) -> bool {
        self.rooms().any(|waiting| waiting == room)
    }

    /// The rooms that wait, innermost first.
    pub fn rooms(&self) -> impl Iterator<Item = &RoomAddress> {
        let mut next = self;
        std::iter::from_fn(move || {
            let Waiting { room, before } = next.0.as_deref()?;
            next = before;
            Some(room)
        })
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rooms().map(ToString::to_string)).finish()
    }
}
