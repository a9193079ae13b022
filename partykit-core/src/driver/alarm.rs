//! What the driver does for a room's alarm and its schedules: it reads their rows, and lets the one ring that is
//! due first.

use std::time::Duration;

use bytes::Bytes;
use tracing::error;

use super::schedules::{next, park_schedules};
use crate::{
    Alarm, BackendError, Room, StorageError,
    engine::cell::RoomCell,
    machine::{Beginning, Fact},
    storage::{AlarmRow, Bell, Lookup, Run, spread},
    user::storage::durable,
    value::order::Order,
};

/// What rings.
pub(crate) enum Rang {
    Alarm(Alarm),
    Schedule(Run),
}

/// The room's alarm or schedule. `None` if none is due. When this returns one, the attempt to ring it is
/// stored.
///
/// Only one rings at a time. If more are due, the commit that ends this one wakes the room again.
pub(crate) async fn ring(room: &Room) -> Result<Option<Rang>, StorageError> {
    if !begin(room).await? {
        return Ok(None);
    }
    let wall = room.now();
    let now = room.cell().host().elapsed();
    let Some(bell) = room.inside(|turn| turn.about_to_ring()) else { return Ok(None) };
    let next = bell.next(wall)?;
    let bell = room.inside(|turn| turn.ring(now, wall, next));
    Ok(bell.map(|bell| match bell.run(wall) {
        Some(run) => Rang::Schedule(run),
        None => Rang::Alarm(bell.alarm()),
    }))
}

/// Stores that the room's alarm or schedule begins to ring, and when it rings again if the process ends
/// meanwhile. `false` when there is nothing to ring now.
///
/// It waits until that is stored. So if the handler or the room's start ends the process, the next process
/// rings it after a pause, and not at once.
pub(crate) async fn begin(room: &Room) -> Result<bool, StorageError> {
    let cell = room.cell();
    let Some(bell) = next(room).await? else { return Ok(false) };
    let (wall, started) = (room.now(), cell.host().started());
    let spread = spread(cell.address());
    let age = cell.host().elapsed().saturating_sub(started);
    let beginning = room.inside(|turn| turn.begin_alarm(age, wall, bell.clone(), spread));
    let Some(Beginning { rings, number, died }) = beginning else { return Ok(false) };
    if let Some((deaths, next)) = died {
        say_died(cell, &bell, deaths, rings, next.since(wall));
    }
    durable(room, number).await;
    Ok(rings)
}

/// The row with this key as the store or the pending writes have it.
pub(super) async fn stored(room: &Room, key: Bytes) -> Result<Option<Bell>, BackendError> {
    let cell = room.cell();
    let row = match room.inside(|turn| turn.lookup(&key)) {
        Lookup::Ask => {
            let keys = std::slice::from_ref(&key);
            let found = cell.host().backend().read(cell.address(), keys).await?;
            found.into_iter().next().flatten()
        }
        known => known.value(),
    };
    row.map(|row| Bell::decode(&key, &row)).transpose()
}

/// Logs that a process has died. The line names the room, because a log of errors alone has no span.
fn say_died(cell: &RoomCell, bell: &Bell, deaths: u32, rings: bool, next: Duration) {
    let (party, room) = (cell.address().party(), cell.address().room().as_str());
    cell.observe(Fact::AlarmDied { deaths });
    let when = match rings {
        true => format!("it rings now, and after another death in {next:.0?}"),
        false => format!("it rings in {next:.0?}"),
    };
    match bell.plan() {
        None => error!(
            party,
            room,
            deaths,
            "the process ended while on_alarm of this room ran, {deaths} times by now; {when}; if the alarm \
             is the cause, park it: Handle::park_alarm, or the environment variable \
             PARTYKIT_PARK_ALARMS={party}/{room} at the next start"
        ),
        Some(plan) => error!(
            party,
            room,
            deaths,
            schedule = plan.name(),
            "the process ended while on_schedule of this room ran, {deaths} times by now; {when}; if the \
             schedule is the cause, park it: Handle::park_alarm, or the environment variable \
             PARTYKIT_PARK_ALARMS={party}/{room} at the next start"
        ),
    }
}

/// Does what an operator wants done, as writes of the turn that runs.
pub(crate) async fn carry_out(room: &Room, order: Order) -> Result<(), StorageError> {
    let next = match order {
        Order::Erase => {
            room.inside(|turn| turn.clear());
            return Ok(());
        }
        Order::SetAlarm(at) => Some(AlarmRow::new(at)),
        Order::DeleteAlarm => None,
        Order::ParkAlarm => {
            park_schedules(room).await?;
            let Some(row) = stored(room, AlarmRow::KEY).await? else { return Ok(()) };
            Some(room.inside(|turn| turn.known(row)).times().parked())
        }
    };
    room.inside(|turn| turn.write_alarm(next));
    Ok(())
}
