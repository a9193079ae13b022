//! What the driver does for a room's alarm: it reads the row, and lets the alarm ring if it is due.

use std::time::Duration;

use tracing::error;

use crate::{
    Alarm, BackendError, Room, StorageError,
    engine::cell::RoomCell,
    machine::{Beginning, Fact},
    storage::{AlarmRow, Lookup, spread},
    user::storage::durable,
    value::order::Order,
};

/// The room's alarm. `None` if it is not due. When this returns an alarm, the attempt to ring it is stored.
pub(crate) async fn ring(room: &Room) -> Result<Option<Alarm>, StorageError> {
    if !begin(room).await? {
        return Ok(None);
    }
    let wall = room.now();
    let now = room.cell().host().elapsed();
    Ok(room.inside(|turn| turn.ring(now, wall)))
}

/// Stores that the room's alarm begins to ring, and when it rings again if the process ends meanwhile.
/// `false` when there is nothing to ring now.
///
/// It waits until that is stored. So if the handler or the room's start ends the process, the next process
/// rings the alarm after a pause, and not at once.
pub(crate) async fn begin(room: &Room) -> Result<bool, StorageError> {
    let cell = room.cell();
    let Some(row) = stored(room).await? else {
        room.inside(|turn| turn.no_alarm());
        return Ok(false);
    };
    let (wall, started) = (room.now(), cell.host().started());
    let spread = spread(cell.address());
    let age = cell.host().elapsed().saturating_sub(started);
    let beginning = room.inside(|turn| turn.begin_alarm(age, wall, row, spread));
    let Some(Beginning { rings, number, died }) = beginning else { return Ok(false) };
    if let Some((deaths, next)) = died {
        say_died(cell, deaths, rings, next.since(wall));
    }
    durable(room, number).await;
    Ok(rings)
}

/// The row as the store or the pending writes have it.
async fn stored(room: &Room) -> Result<Option<AlarmRow>, BackendError> {
    let cell = room.cell();
    let row = match room.inside(|turn| turn.lookup(&AlarmRow::KEY)) {
        Lookup::Ask => {
            let found = cell.host().backend().read(cell.address(), &[AlarmRow::KEY]).await?;
            found.into_iter().next().flatten()
        }
        known => known.value(),
    };
    row.map(|row| AlarmRow::decode(&row)).transpose()
}

/// Logs that a process has died. The line names the room, because a log of errors alone has no span.
fn say_died(cell: &RoomCell, deaths: u32, rings: bool, next: Duration) {
    let (party, room) = (cell.address().party(), cell.address().room().as_str());
    cell.observe(Fact::AlarmDied { deaths });
    let when = match rings {
        true => format!("it rings now, and after another death in {next:.0?}"),
        false => format!("it rings in {next:.0?}"),
    };
    error!(
        party,
        room,
        deaths,
        "the process ended while on_alarm of this room ran, {deaths} times by now; {when}; if the alarm is \
         the cause, park it: Handle::park_alarm, or the environment variable \
         PARTYKIT_PARK_ALARMS={party}/{room} at the next start"
    );
}

/// Does what an operator wants done, as writes of the turn that runs.
pub(crate) async fn carry_out(room: &Room, order: Order) -> Result<(), StorageError> {
    let next = match order {
        Order::Erase => {
            room.inside(|turn| turn.clear());
            return Ok(());
        }
        Order::SetAlarm(at) => Some(AlarmRow::new(at)),
        Order::DeleteAlarm | Order::ParkAlarm => {
            let Some(row) = stored(room).await? else { return Ok(()) };
            let parks = order == Order::ParkAlarm;
            parks.then(|| room.inside(|turn| turn.known_alarm(row)).parked())
        }
    };
    room.inside(|turn| turn.write_alarm(next));
    Ok(())
}
