//! The alarm of a room: what handlers are told of it, what operators can do with it, and its row.

mod desk;
mod row;

use std::time::Duration;

use tracing::error;

use crate::{BackendError, Room, StorageError, Timestamp, cell::RoomCell, machine::Beginning};

pub(crate) use desk::{AlarmOrder, carry_out};
pub use desk::{AlarmState, read_alarm};
pub(crate) use row::{AlarmRow, spread};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What a row of the framework holds, as JSON for people to read; `None` if the row is a user's, or has no
/// such form.
pub fn describe_row(key: &[u8], value: &[u8]) -> Option<String> {
    if key != AlarmRow::KEY {
        return None;
    }
    let row = AlarmRow::decode(value).ok()?;
    serde_json::to_string(&serde_json::json!({ "alarm": row })).ok()
}

/// The room's alarm, if it is due. It is stored by then that its handler begins.
pub(crate) async fn ring(room: &Room) -> Result<Option<Alarm>, StorageError> {
    if !begin(room).await? {
        return Ok(None);
    }
    let wall = room.now();
    Ok(room.cell().report(|machine, now| machine.ring(now, wall)))
}

/// Stores that the room's alarm begins to ring, and when it rings again if the process ends meanwhile.
/// `false` when there is nothing to ring now.
///
/// It waits until that is stored: a process that dies of the handler, or of the room's start, comes
/// back to the alarm later, and not at once.
pub(crate) async fn begin(room: &Room) -> Result<bool, StorageError> {
    let cell = room.cell();
    let Some(row) = stored(room).await? else {
        cell.machine(|machine| machine.no_alarm());
        return Ok(false);
    };
    let (wall, started) = (room.now(), cell.host().started());
    let spread = spread(cell.address());
    let beginning = cell
        .report(|machine, now| machine.begin_alarm(now.saturating_sub(started), wall, row, spread));
    let Some(Beginning { rings, number, died }) = beginning else { return Ok(false) };
    if let Some((deaths, next)) = died {
        say_died(cell, deaths, rings, next.since(wall));
    }
    crate::storage::durable(room, number).await;
    Ok(rings)
}

/// The row as it is stored, or as the writes that are on their way make it.
async fn stored(room: &Room) -> Result<Option<AlarmRow>, BackendError> {
    let cell = room.cell();
    let row = match cell.machine(|machine| machine.lookup(&AlarmRow::KEY)) {
        Some(pending) => pending,
        None => {
            let found = cell.host().backend().read(cell.address(), &[AlarmRow::KEY]).await?;
            found.into_iter().next().flatten()
        }
    };
    row.map(|row| AlarmRow::decode(&row)).transpose()
}

/// The span of the room is not there in a log of errors alone: the line names the room itself.
fn say_died(cell: &RoomCell, deaths: u32, rings: bool, next: Duration) {
    let (party, room) = (cell.address().party(), cell.address().room().as_str());
    cell.observe(crate::fact::Fact::AlarmDied { deaths });
    let when = match rings {
        true => format!("It rings now; if the process ends again, it rings {next:.0?} later"),
        false => format!("It rings in {next:.0?}"),
    };
    error!(
        party,
        room,
        deaths,
        "the process ended while the alarm of this room rang, {deaths} times by now. {when}. If the \
         alarm is the cause, park it: Handle::park_alarm, or the environment variable \
         PARTYKIT_PARK_ALARMS={party}/{room} at the next start"
    );
}
