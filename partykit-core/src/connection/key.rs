/// The number of a connection in its room: what a runtime keeps with a socket to name it to the
/// [`RoomCell`](crate::runtime::RoomCell). Connections are numbered in the order in which they came, and no
/// number is used twice.
///
/// ```
/// use std::sync::Arc;
/// use partykit_core::{Close, Refusal, Request, runtime::{ConnectionKey, RoomCell, Socket}};
///
/// fn visit(room: &Arc<RoomCell>, socket: Arc<dyn Socket>) -> Result<(), Refusal> {
///     let uri = "http://example.com/parties/main/lobby";
///     let key: ConnectionKey = room.connect("ada", uri, Request::default(), socket)?;
///     room.closed(key, Close::normal());
///     Ok(())
/// }
/// # let _ = visit;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey(pub(crate) u64);

impl ConnectionKey {
    /// The key of the connection with this [`order`](crate::runtime::Attachment::order).
    pub const fn new(order: u64) -> Self {
        Self(order)
    }

    /// Its place in the order in which the connections of the room came.
    pub const fn order(self) -> u64 {
        self.0
    }
}
