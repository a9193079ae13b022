/// Why `on_start` runs. Computed, not stored.
///
/// ```
/// use partykit_core::{Result, Room, Server, StartReason};
///
/// struct Game;
///
/// impl Server for Game {
///     async fn on_start(&mut self, room: &Room) -> Result {
///         if room.start_reason() == StartReason::Restart {
///             // The players of before are gone without an on_close: forget them.
///             room.storage().delete("players")?;
///         }
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "sockets survived or not; storage is empty or not")]
pub enum StartReason {
    /// No connection and nothing in storage: the room is new.
    First,
    /// No connection, but something in storage: the room was here before.
    Restart,
    /// Connections are here: the room slept, or a failure took its instance.
    Wake,
}
