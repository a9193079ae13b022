//! The alarm: what the handlers and the room itself make of its row, and who rings it.

use std::time::Duration;

use super::{
    client::Request,
    model::{JobKind, Model, Turn, What},
    op::{Ending, Op},
    property::Property,
    rows::{Rows, Segment},
    world::{Fault, World},
};
use crate::{
    Alarm, Batch, Timestamp, WakeUp,
    machine::{Answer, Event},
    storage::{AlarmRow, Lookup},
};

/// What the wall clock shows when the machine's own begins.
const WALL: Timestamp = Timestamp::from_millis(1_000_000);

/// The spread of this room.
const SPREAD: u64 = 7;

/// The alarm whose handler runs.
pub(super) struct Ringing {
    row: AlarmRow,
    begun: AlarmRow,
    /// What its handler was told.
    told: Alarm,
}

/// An attempt that this process has made.
pub(super) struct Attempted {
    original: AlarmRow,
    begun: AlarmRow,
    /// It was made before the room started, and its handler is to come.
    pub(super) ahead: bool,
    /// A commit has failed since: the store may hold it or not.
    pub(super) doubtful: bool,
}

/// What a handler waits for before it begins.
pub(super) struct Waits {
    number: u64,
    rings: bool,
    /// It is the start that waits.
    starts: bool,
}

impl World {
    pub(super) fn wall(&self) -> Timestamp {
        WALL + self.now
    }

    /// Sets the alarm to this many milliseconds from now, less a second.
    pub(super) fn set_alarm(&mut self, millis: u16) {
        let at = Timestamp::from_millis(self.wall().as_millis() + u64::from(millis) - 1000);
        self.model.write_alarm(Some(AlarmRow::new(at)));
        self.turn().write_alarm(Some(AlarmRow::new(at)));
    }

    pub(super) fn delete_alarm(&mut self) {
        self.model.write_alarm(None);
        self.turn().write_alarm(None);
    }

    /// Asks the room whether its alarm is due, unless it is being asked.
    pub(super) fn ring(&mut self) {
        if self.model.requests.iter().any(|request| request.alarm && !request.done) {
            return;
        }
        let (reply, answer) = futures_channel::oneshot::channel();
        let number = self.model.requests.len();
        self.model.requests.push(Request { answer: Some(answer), done: false, alarm: true });
        if !self.push(Event::Alarm { reply: Some(reply) }) {
            self.model.requests[number].done = true;
        }
    }

    /// `on_alarm` is to be run; says for whom.
    pub(super) fn asked(&self) -> JobKind {
        let asked = self.model.requests.iter().rposition(|request| request.alarm && !request.done);
        asked.map_or(JobKind::Other, JobKind::Alarm)
    }

    /// Does what the driver does first for `on_alarm`, or for a start that an alarm asks for.
    pub(super) fn begin_alarm(&mut self) {
        let starts = self.model.turn.as_ref().is_some_and(|turn| turn.job == JobKind::Start);
        let ought = self.model.view().get(&AlarmRow::KEY).map(|row| decode(row));
        let is = self.turn().lookup(&AlarmRow::KEY);
        let is = is.or_ask(|| self.store.get(&AlarmRow::KEY).cloned());
        let is = is.map(|row| decode(&row));
        let same = is == ought;
        self.model.check(Property::Alarms, same, format!("rings {is:?} and not {ought:?}"));
        let Some(row) = is else {
            self.waits = Some(Waits { number: 0, rings: false, starts });
            self.turn().is_attempt(&AlarmRow::KEY, None);
            return;
        };
        let ahead = if self.fault == Fault::EarlyRing { 3600 } else { 0 };
        let (age, wall) = (self.now - self.started, self.wall());
        let began = self.turn().begin_alarm(age, wall + Duration::from_secs(ahead), row, SPREAD);
        let rings = began.is_some_and(|began| began.rings);
        let ought = self.model.begin_alarm(row, wall, age, starts);
        let right = rings == ought;
        self.model.check(Property::Alarms, right, format!("{row:?} rings: {rings}, not {ought}"));
        let number = began.map_or(0, |began| began.number);
        self.waits = Some(Waits { number, rings, starts });
    }

    /// Goes on with what waited for the store; whether something did.
    pub(super) fn go_on(&mut self) -> bool {
        let early = self.fault == Fault::EarlyHandler;
        let ready = |waits: &mut Waits| early || self.machine.gate.is_durable(waits.number);
        let Some(Waits { rings, starts, .. }) = self.waits.take_if(ready) else { return false };
        if rings {
            let stored = self.store.get(&AlarmRow::KEY).map(|row| decode(row));
            let pauses =
                stored.is_some_and(|row| row.has_begun() && Some(row.rings()) == self.wake_up);
            let later = self.wake_up.is_some_and(|at| at > self.wall());
            let long = self
                .model
                .attempts
                .last()
                .is_some_and(|attempt| attempt.begun.rings() <= self.wall());
            let what = format!(
                "{stored:?} is stored when the handler begins, and the wake-up {:?}",
                self.wake_up
            );
            self.model.check(Property::Alarms, pauses && (later || long), what);
        }
        match (starts, rings) {
            (true, true) => self.turn().errand_done(),
            (true, false) => {
                let asked = self.asked();
                self.model.not_now(asked);
                self.running = None;
                self.machine.turn_ended(self.now, Ok(Answer::NotNow));
            }
            (false, true) => {
                let (now, wall) = (self.now, self.wall());
                let told = self.turn().ring(now, wall, None);
                self.model.ringing(told.map(|bell| bell.alarm()));
            }
            (false, false) => self.finish(Ending::Done),
        }
        true
    }

    /// The batch as it is stored.
    pub(super) fn spoiled(&self, mut batch: Batch) -> Batch {
        let row = batch.writes.get(&AlarmRow::KEY).cloned().flatten();
        let rings = row.as_ref().is_some_and(|row| decode(row).has_begun());
        match self.fault {
            Fault::RemovedAlarm if rings => {
                batch.writes.insert(AlarmRow::KEY, None);
                batch.wake_up = Some(WakeUp::Never);
            }
            Fault::NoWakeUp => batch.wake_up = None,
            Fault::NoPause if rings => {
                let now = row.map(|row| decode(&row).postponed(self.wall()));
                batch.writes.insert(AlarmRow::KEY, now.map(|row| row.encode()));
                batch.wake_up = Some(WakeUp::At(self.wall()));
            }
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
        let transaction = self.innermost();
        let read =
            |pending: Lookup, store: &Rows| pending.or_ask(|| store.get(&AlarmRow::KEY).cloned());
        let (is, ought) = (read(self.machine.alarm(transaction), &self.store), self.model.alarm());
        let same = is == ought || self.model.turn.as_ref().is_some_and(|turn| turn.void);
        let what = format!("the room's alarm is {is:?} and not {ought:?}");
        self.model.check(Property::Alarms, same, what);
        let turn = self.model.turn.as_ref().filter(|turn| !turn.void);
        let Some(alarm) = turn.and_then(|turn| turn.ringing.as_ref()) else { return };
        // If the process ends here, it will ring again, or another one, no matter what its handler does.
        let pending: Vec<&Batch> = self.machine.gate.pending().collect();
        let kept = crate::storage::lookup(&pending, &AlarmRow::KEY);
        let kept = read(kept, &self.store).map(|row| decode(&row));
        let what = format!("{:?} is gone while it rings: there is {kept:?}", alarm.told);
        let again = kept.is_some_and(|row| row.has_begun() && row.alarm() == alarm.told);
        self.model.check(Property::Alarms, again, what);
    }

    /// Lets the alarm ring, at its time, once; after the pause of a process that died in it.
    pub(super) fn ring_out(&mut self) {
        for _ in 0..2 {
            let Some(row) = self.store.get(&AlarmRow::KEY).map(|row| decode(row)) else {
                // Who asked in vain asks again, although what there was to ring is not stored.
                self.step(&Op::Ring);
                return self.all_ends();
            };
            self.pass(row.rings().since(self.wall()));
            self.step(&Op::Ring);
            self.all_ends();
        }
        let is_over = !self.store.contains_key(&AlarmRow::KEY);
        self.model.check(Property::Alarms, is_over, "an alarm rang, and is not over");
    }
}

impl Model {
    /// The running handler sets or deletes the alarm.
    fn write_alarm(&mut self, row: Option<AlarmRow>) {
        let number = self.next_write();
        self.turn.iter_mut().for_each(|turn| turn.writes.push((number, AlarmRow::batch(row))));
    }

    /// What a handler that asks for the alarm is told.
    fn alarm(&self) -> Option<bytes::Bytes> {
        let own = self.turn.as_ref().map(Turn::merged).unwrap_or_default();
        let own = crate::storage::lookup(&[&own], &AlarmRow::KEY);
        match (own, self.attempted()) {
            (own, _) if own.is_known() => own.value(),
            _ if self.turn.as_ref().is_some_and(|turn| turn.ringing.is_some()) => None,
            (_, Some(attempt)) if attempt.ahead => Some(attempt.original.encode()),
            _ => self.kept().get(&AlarmRow::KEY).cloned(),
        }
    }

    /// The attempt of this process that the alarm's row tells of.
    fn attempted(&self) -> Option<&Attempted> {
        let row = self.kept().get(&AlarmRow::KEY).map(|row| decode(row));
        self.attempts.iter().rfind(|attempt| Some(attempt.begun) == row)
    }

    /// The alarm may be due; whether it is to ring now. `ahead` says that the room has yet to start.
    fn begin_alarm(&mut self, row: AlarmRow, wall: Timestamp, age: Duration, ahead: bool) -> bool {
        let known = self.attempted().map(|attempt| (attempt.ahead, attempt.original));
        let batch = match known {
            Some((true, _)) => return true,
            None if row.rings() > wall => {
                Batch { wake_up: Some(WakeUp::At(row.rings())), ..Batch::default() }
            }
            _ => {
                let died = known.is_none() && row.has_begun();
                let now = match known {
                    Some((_, original)) => original,
                    None if died => row.died(),
                    None => row,
                };
                let rest = now.pause(SPREAD).saturating_sub(age);
                if died && !rest.is_zero() {
                    AlarmRow::batch(Some(now.postponed(wall + rest)))
                } else {
                    let begun = now.begins(wall, SPREAD);
                    let original = now;
                    self.attempts.push(Attempted { original, begun, ahead, doubtful: false });
                    AlarmRow::batch(Some(begun))
                }
            }
        };
        let rings = batch
            .writes
            .get(&AlarmRow::KEY)
            .is_some_and(|row| row.as_ref().is_some_and(|row| decode(row).has_begun()));
        let number = self.next_write();
        self.pending.push(Segment::new(number, batch));
        self.turn.iter_mut().for_each(|turn| turn.base = number);
        rings
    }

    /// The handler of the alarm begins, and is told this.
    fn ringing(&mut self, told: Option<Alarm>) {
        let attempt = self.attempts.last_mut().map(|attempt| {
            attempt.ahead = false;
            (attempt.original, attempt.begun)
        });
        let ought = attempt.map(|(original, _)| original.alarm());
        self.check(Property::Alarms, told == ought, format!("{told:?} and not {ought:?}"));
        if let (Some(turn), Some((row, begun)), Some(told)) = (&mut self.turn, attempt, told) {
            turn.ringing = Some(Ringing { row, begun, told });
        }
    }

    /// The room need not start for its alarm.
    fn not_now(&mut self, asked: JobKind) {
        self.turn = None;
        if self.drained {
            self.restore_alarm();
        }
        if let JobKind::Alarm(asked) = asked {
            self.say(None, What::Respond(asked));
        }
    }

    /// What an attempt is that came to nothing: as if it had not been.
    pub(super) fn restore_alarm(&mut self) {
        let known = self.attempted().filter(|attempt| !attempt.doubtful);
        if let Some(original) = known.map(|attempt| attempt.original) {
            let number = self.next_write();
            self.pending.push(Segment::new(number, AlarmRow::batch(Some(original))));
        }
    }

    /// The server goes down.
    pub(super) fn drain(&mut self) {
        if !std::mem::replace(&mut self.drained, true) && self.turn.is_none() {
            self.restore_alarm();
        }
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
                let kept = turn.ringing.as_ref().map(|ringing| ringing.begun);
                turn.writes.push((latest, AlarmRow::batch(kept)));
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
        let batch = AlarmRow::batch(ringing.row.retried(wall));
        let number = self.next_write();
        self.pending.push(Segment::new(number, batch));
        self.say(None, What::Respond(asked));
    }
}

fn decode(row: &[u8]) -> AlarmRow {
    AlarmRow::decode(row).expect("an alarm's row")
}
