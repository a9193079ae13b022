//! The alarm: what the handlers and the room itself make of its row, and who rings it.

use std::time::Duration;

use super::{
    model::{JobKind, Model, Property, Request, Rows, Segment, What},
    op::{Ending, Op},
    world::{Fault, World},
};
use crate::{Alarm, Batch, Timestamp, WakeUp, alarm::AlarmRow, machine::Event};

/// What the wall clock shows when the machine's own begins.
const WALL: Timestamp = Timestamp::from_millis(1_000_000);

/// The alarm whose handler runs.
pub(super) struct Ringing {
    row: AlarmRow,
    /// What its handler was told.
    told: Alarm,
}

impl World {
    pub(super) fn wall(&self) -> Timestamp {
        WALL + self.now
    }

    /// Sets the alarm so many milliseconds from now, less a second.
    pub(super) fn set_alarm(&mut self, millis: u16) {
        let at = Timestamp::from_millis(self.wall().as_millis() + u64::from(millis) - 1000);
        self.model.write_alarm(Some(AlarmRow::new(at)));
        self.machine.set_alarm(at);
    }

    pub(super) fn delete_alarm(&mut self) {
        self.model.write_alarm(None);
        self.machine.delete_alarm();
    }

    /// Asks the room whether its alarm is due, unless it is being asked.
    pub(super) fn ring(&mut self) {
        if self.model.requests.iter().any(|request| request.alarm && !request.done) {
            return;
        }
        let (reply, answer) = futures_channel::oneshot::channel();
        let number = self.model.requests.len();
        self.model.requests.push(Request { answer: Some(answer), done: false, alarm: true });
        if !self.push(Event::Alarm { reply }) {
            self.model.requests[number].done = true;
        }
    }

    /// `on_alarm` is to be run; says for whom.
    pub(super) fn asked(&self) -> JobKind {
        let asked = self.model.requests.iter().rposition(|request| request.alarm && !request.done);
        asked.map_or(JobKind::Other, JobKind::Alarm)
    }

    /// Does what the driver does first for `on_alarm`.
    pub(super) fn begin_alarm(&mut self) {
        let ought = self.model.view().get(&AlarmRow::KEY).map(|row| decode(row));
        let is = self.machine.lookup_alarm();
        let is = is.unwrap_or_else(|| self.store.get(&AlarmRow::KEY).cloned());
        let is = is.map(|row| decode(&row));
        let same = is == ought;
        self.model.check(Property::Alarms, same, format!("rings {is:?} and not {ought:?}"));
        let Some(row) = is else { return self.finish(Ending::Done) };
        let ahead = if self.fault == Fault::EarlyRing { 3600 } else { 0 };
        let rung = self.machine.ring(self.now, self.wall() + Duration::from_secs(ahead), row);
        let is_due = row.rings() <= self.wall();
        let ought = (is_due && !row.is_spent()).then(|| row.alarm());
        let right = rung == ought;
        self.model.check(Property::Alarms, right, format!("{rung:?} rings and not {ought:?}"));
        match rung {
            Some(told) => self.model.ringing(Ringing { row, told }),
            None => self.model.not_ringing(row, is_due),
        }
    }

    /// The batch as it is stored.
    pub(super) fn spoiled(&self, mut batch: Batch) -> Batch {
        let row = batch.writes.get(&AlarmRow::KEY).cloned().flatten();
        let rings = row.is_some_and(|row| decode(&row).alarm().retries > 0);
        match self.fault {
            Fault::RemovedAlarm if rings => {
                batch.writes.insert(AlarmRow::KEY, None);
                batch.wake_up = Some(WakeUp::Never);
            }
            Fault::NoWakeUp => batch.wake_up = None,
            _ => {}
        }
        batch
    }

    /// A batch is in the store.
    pub(super) fn wake_up_stored(&mut self, batch: &Batch) {
        if batch.clear {
            self.wake_up = None;
        }
        match batch.wake_up {
            Some(WakeUp::At(at)) => self.wake_up = Some(at),
            Some(WakeUp::Never) => self.wake_up = None,
            None => {}
        }
        let rings = self.store.get(&AlarmRow::KEY).map(|row| decode(row).rings());
        let what =
            format!("the room is woken at {:?} and its alarm rings at {rings:?}", self.wake_up);
        self.model.check(Property::Alarms, self.wake_up == rings, what);
    }

    pub(super) fn check_alarm(&mut self) {
        let read = |pending: Option<Option<bytes::Bytes>>, store: &Rows| {
            pending.unwrap_or_else(|| store.get(&AlarmRow::KEY).cloned())
        };
        let (is, ought) = (read(self.machine.lookup_alarm(), &self.store), self.model.alarm());
        let same = is == ought || self.model.turn.as_ref().is_some_and(|turn| turn.void);
        let what = format!("the room's alarm is {is:?} and not {ought:?}");
        self.model.check(Property::Alarms, same, what);
        let turn = self.model.turn.as_ref().filter(|turn| !turn.void);
        let Some(alarm) = turn.and_then(|turn| turn.ringing.as_ref()) else { return };
        // Whatever its handler does: if the process ends here, it will ring again, or another one.
        let pending: Vec<&Batch> = self.machine.gate.pending().collect();
        let kept = crate::storage::lookup(&pending, &AlarmRow::KEY);
        let kept = read(kept, &self.store).map(|row| decode(&row).alarm());
        let what = format!("{:?} is gone while it rings: there is {kept:?}", alarm.told);
        let again = Some(Alarm { retries: alarm.told.retries + 1, ..alarm.told });
        self.model.check(Property::Alarms, kept == again, what);
    }

    /// Lets the alarm ring, at its time, once.
    pub(super) fn ring_out(&mut self) {
        let Some(row) = self.store.get(&AlarmRow::KEY).map(|row| decode(row)) else { return };
        self.pass(row.rings().since(self.wall()));
        self.step(&Op::Ring);
        self.all_ends();
        let is_over = !self.store.contains_key(&AlarmRow::KEY);
        self.model.check(Property::Alarms, is_over, "an alarm rang, and is not over");
    }
}

impl Model {
    /// The running handler sets or deletes the alarm.
    fn write_alarm(&mut self, row: Option<AlarmRow>) {
        let number = self.next_write();
        self.turn.iter_mut().for_each(|turn| turn.writes.push((number, alarm_batch(row))));
    }

    /// What a handler that asks for the alarm is told.
    fn alarm(&self) -> Option<bytes::Bytes> {
        match self.turn.as_ref().filter(|turn| turn.ringing.is_some()) {
            Some(turn) => turn.merged().writes.get(&AlarmRow::KEY).cloned().flatten(),
            None => self.view().get(&AlarmRow::KEY).cloned(),
        }
    }

    fn ringing(&mut self, ringing: Ringing) {
        let writes = [(AlarmRow::KEY, Some(ringing.row.counted().encode()))].into();
        let latest = self.latest();
        self.pending.push(Segment::new(latest, Batch { writes, ..Batch::default() }));
        if let Some(turn) = &mut self.turn {
            turn.ringing = Some(ringing);
        }
    }

    /// The alarm did not ring, because it is not due, or because it has rung too often.
    fn not_ringing(&mut self, row: AlarmRow, is_due: bool) {
        let batch = if is_due {
            alarm_batch(None)
        } else {
            Batch { wake_up: Some(WakeUp::At(row.rings())), ..Batch::default() }
        };
        let number = self.next_write();
        self.pending.push(Segment::new(number, batch));
        self.turn.iter_mut().for_each(|turn| turn.base = number);
    }

    /// What a `sync` makes of an alarm that rings.
    pub(super) fn sync_alarm(&mut self) {
        let latest = self.latest();
        let Some(turn) = self.turn.as_mut().filter(|turn| turn.ringing.is_some()) else { return };
        let merged = turn.merged();
        match merged.writes.get(&AlarmRow::KEY) {
            Some(Some(_)) => turn.ringing = None,
            None if !merged.clear => {}
            _ => {
                let kept = turn.ringing.as_ref().map(|ringing| ringing.row.counted());
                turn.writes.push((latest, alarm_batch(kept)));
            }
        }
    }

    /// The handler has succeeded: unless it has set an alarm, there is none.
    pub(super) fn finish_alarm(&mut self) {
        let Some(turn) = self.turn.as_mut() else { return };
        if turn.ringing.take().is_some() && !turn.merged().writes.contains_key(&AlarmRow::KEY) {
            self.write_alarm(None);
        }
    }

    /// The handler has failed at this time: its alarm rings again, and who rang it is told.
    pub(super) fn fail_alarm(&mut self, asked: usize, ringing: &Ringing, wall: Timestamp) {
        let batch = alarm_batch(ringing.row.retried(wall));
        let number = self.next_write();
        self.pending.push(Segment::new(number, batch));
        self.say(None, What::Respond(asked));
    }
}

fn alarm_batch(row: Option<AlarmRow>) -> Batch {
    let wake_up = row.map_or(WakeUp::Never, |row| WakeUp::At(row.rings()));
    let writes = [(AlarmRow::KEY, row.map(|row| row.encode()))].into();
    Batch { writes, wake_up: Some(wake_up), ..Batch::default() }
}

fn decode(row: &[u8]) -> AlarmRow {
    AlarmRow::decode(row).expect("an alarm's row")
}
