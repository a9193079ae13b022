//! What the driver does for a room's schedules only. A program without the feature `schedules` has the module
//! `no_schedules` in the place of this one.

use super::alarm::stored;
use crate::{
    BackendError, Room, StorageError, Timestamp,
    storage::{AlarmRow, Bell, Diff, First, first, order, schedules},
};

/// What rings next: an attempt of this process that has not ended, or else the first of the alarm and the
/// schedules.
pub(super) async fn next(room: &Room) -> Result<Option<Bell>, BackendError> {
    for key in room.inside(|turn| turn.attempts()) {
        let row = stored(room, key.clone()).await?;
        if room.inside(|turn| turn.is_attempt(&key, row.as_ref())) {
            return Ok(row);
        }
    }
    let alarm = stored(room, AlarmRow::KEY).await?;
    let schedule = first_schedule(room).await?;
    let time = |bell: &Bell| match bell.times().is_parked() {
        true => Timestamp::from_millis(u64::MAX),
        false => bell.times().rings(),
    };
    // Of those at the same time, the alarm comes first.
    Ok(alarm.into_iter().chain(schedule).min_by_key(time))
}

/// The schedule that rings first.
async fn first_schedule(room: &Room) -> Result<Option<Bell>, BackendError> {
    let cell = room.cell();
    loop {
        let diff = room.inside(|turn| turn.diff(&order()));
        let found = first(diff, &**cell.host().backend(), cell.address()).await?;
        let Some(found) = found else { return Ok(None) };
        let First { order, key, .. } = &found;
        let bell = stored(room, key.clone()).await?;
        match bell.filter(|bell| found.is(bell)) {
            Some(bell) => return Ok(Some(bell)),
            // No write of ours leaves such a row. It would wake the room for ever.
            None => room.inside(|turn| turn.heal(order.clone())),
        }
    }
}

/// Parks the schedules during which a process has ended.
pub(super) async fn park_schedules(room: &Room) -> Result<(), StorageError> {
    let cell = room.cell();
    let diff: Diff = room.inside(|turn| turn.diff(&schedules()));
    let backend = &**cell.host().backend();
    let rows = diff.scan(backend, cell.address(), &schedules(), false, usize::MAX).await?;
    for (key, value) in rows {
        let row = Bell::decode(&key, &value)?;
        let known = room.inside(|turn| turn.known(row.clone()));
        if known.times().has_begun() || known.alarm().deaths > 0 {
            let parked = known.with(known.times().parked());
            room.inside(|turn| turn.write_schedule(Some(&row), Some(&parked)))?;
        }
    }
    Ok(())
}
