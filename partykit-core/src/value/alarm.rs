use serde::Serialize;

use crate::Timestamp;

/// An alarm that rings: what [`Server::on_alarm`](crate::Server::on_alarm) is told.
///
/// ```
/// use std::time::Duration;
/// use partykit_core::{Alarm, Connection, Message, Result, Room, Server};
///
/// struct Reminder;
///
/// impl Server for Reminder {
///     async fn on_message(&mut self, room: &Room, _: &Connection, note: Message) -> Result {
///         room.storage().put("note", note.as_text().unwrap_or_default())?;
///         room.storage().set_alarm(room.now() + Duration::from_secs(60))?;
///         Ok(())
///     }
///
///     async fn on_alarm(&mut self, room: &Room, alarm: Alarm) -> Result {
///         let note: Option<String> = room.storage().get("note").await?;
///         let late = room.now().since(alarm.scheduled);
///         room.broadcast(format!("{} (late by {late:?})", note.unwrap_or_default())).send();
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Alarm {
    /// When it was to ring.
    pub scheduled: Timestamp,
    /// How often its handler has failed: 0 the first time, 6 at most. After the seventh failure the
    /// alarm is given up.
    pub retries: u32,
    /// How often the process has ended while its handler ran. This has no limit, and uses up no retry.
    pub deaths: u32,
}
