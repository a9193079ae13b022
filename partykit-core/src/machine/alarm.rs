//! The room's alarm: a row like any other, but that its batch also says when the room is to be woken,
//! and that it goes only when its handler has succeeded.

use std::time::Duration;

use bytes::Bytes;

use super::{Effect, Machine, turn::Turn};
use crate::{Alarm, Batch, Response, Timestamp, WakeUp, alarm::AlarmRow, fact::Fact};

/// The alarm whose handler runs.
pub(super) struct Ringing {
    row: AlarmRow,
    /// When it began, by both clocks.
    wall: Timestamp,
    now: Duration,
}

impl Machine {
    /// Sets or replaces the alarm.
    pub(crate) fn set_alarm(&mut self, at: Timestamp) {
        self.write_alarm(Some(AlarmRow::new(at)));
    }

    pub(crate) fn delete_alarm(&mut self) {
        self.write_alarm(None);
    }

    /// What the pending writes say of the alarm's row; `None` when the store has to be asked. There is
    /// none while its own handler runs, unless that has set one.
    pub(crate) fn lookup_alarm(&self) -> Option<Option<Bytes>> {
        let rings = self.turn.as_ref().is_some_and(|turn| turn.ringing.is_some());
        let own = self.turn.as_ref().and_then(|turn| turn.overlay.writes.get(&AlarmRow::KEY));
        match own {
            Some(own) => Some(own.clone()),
            None if rings => Some(None),
            None => self.lookup(&AlarmRow::KEY),
        }
    }

    /// The row that was read for the running handler of an alarm: rings it, if it is due. That it rings
    /// is stored meanwhile, so that a process which dies of it does not do so for ever.
    pub(crate) fn ring(&mut self, now: Duration, wall: Timestamp, row: AlarmRow) -> Option<Alarm> {
        let turn = self.turn.as_mut()?;
        let author = turn.author();
        let batch = if row.rings() > wall || row.is_spent() {
            // Who asks is answered when this is durable. No failure of the turn takes it back.
            self.gate.write();
            turn.base = self.gate.written();
            if row.rings() > wall {
                // Somebody woke the room too early, and may have forgotten the time by that.
                Batch { wake_up: Some(WakeUp::At(row.rings())), ..Batch::default() }
            } else {
                self.facts.push(Fact::AlarmGivenUp);
                alarm_batch(None)
            }
        } else {
            turn.ringing = Some(Ringing { row, wall, now });
            let writes = [(AlarmRow::KEY, Some(row.counted().encode()))].into();
            Batch { writes, ..Batch::default() }
        };
        self.gate.add(batch, author);
        self.begin_commit();
        self.turn.as_ref()?.ringing.as_ref().map(|ringing| ringing.row.alarm())
    }

    /// The handler of an alarm succeeded: unless it has set another, there is none any more.
    pub(super) fn silence(&mut self, turn: &mut Turn) {
        if turn.ringing.take().is_some() && !turn.overlay.writes.contains_key(&AlarmRow::KEY) {
            turn.overlay.writes.insert(AlarmRow::KEY, None);
            turn.overlay.wake_up = Some(WakeUp::Never);
            self.gate.write();
        }
    }

    /// The handler of an alarm failed: it rings again later, or never. Whoever rang it learns of that
    /// from the store.
    pub(super) fn retry_alarm(&mut self, now: Duration, turn: &mut Turn) {
        let Some(ringing) = turn.ringing.take().filter(|_| !turn.void) else { return };
        // Both clocks were read in whole milliseconds at best: no pause is shorter for that.
        let took = now.saturating_sub(ringing.now).as_nanos().div_ceil(1_000_000);
        let wall = ringing.wall + Duration::from_millis(u64::try_from(took).unwrap_or(u64::MAX));
        let next = ringing.row.retried(wall);
        if next.is_none() {
            self.facts.push(Fact::AlarmGivenUp);
        }
        let batch = alarm_batch(next);
        self.gate.write();
        self.gate.add(batch, turn.author());
        if let Some(reply) = turn.reply.take() {
            self.emit(None, Effect::Respond(reply, Ok(Response::default())));
        }
    }

    fn write_alarm(&mut self, row: Option<AlarmRow>) {
        if let Some(turn) = &mut self.turn {
            turn.overlay.merge(alarm_batch(row));
            self.gate.write();
        }
    }
}

impl Turn {
    /// A part of what the handler did is committed before it ends. An alarm that it has set by then
    /// stands in the place of the one that rings; but if it has deleted the row, that is not over yet.
    pub(super) fn keep_alarm(&mut self) {
        let Some(ringing) = &self.ringing else { return };
        let write = self.overlay.writes.get(&AlarmRow::KEY);
        if write.is_some_and(Option::is_some) {
            self.ringing = None;
        } else if write.is_some() || self.overlay.clear {
            let counted = ringing.row.counted();
            self.overlay.writes.insert(AlarmRow::KEY, Some(counted.encode()));
            self.overlay.wake_up = Some(WakeUp::At(counted.rings()));
        }
    }
}

fn alarm_batch(row: Option<AlarmRow>) -> Batch {
    let wake_up = row.map_or(WakeUp::Never, |row| WakeUp::At(row.rings()));
    let writes = [(AlarmRow::KEY, row.map(|row| row.encode()))].into();
    Batch { writes, wake_up: Some(wake_up), ..Batch::default() }
}
