//! What rings in a room: its alarm, and its schedules. Each is a row like any other, but that its batch also
//! says that the room is to be woken, and that it goes on only when its handler has succeeded.
//!
//! An attempt to ring it is stored before anything of the user runs for it, with the time at which it rings
//! again if nothing more is stored. So a process that finds such a row knows that an earlier one died. If
//! anything else ends an attempt, that is not the alarm's fault, and the row from before comes back: in the
//! store where that can be reached, and in memory, which the next attempt looks at first.

#[cfg(feature = "schedules")]
mod schedules;

use std::time::Duration;

use bytes::Bytes;

use super::{
    Answer, Effect, Event, Fact, Machine, Output, TransactionId, TurnMut,
    attempts::Attempts,
    gate::{Author, Gate},
    turn::Turn,
};
use crate::{
    Batch, Handler, Timestamp,
    storage::{AlarmRow, Bell, Lookup, lookup},
    value::order::Order,
};

/// The alarm or the schedule whose handler runs.
pub(super) struct Ringing {
    bell: Bell,
    begun: Bell,
    /// When it rings next if its handler succeeds, or fails for the last time.
    next: Option<Timestamp>,
    /// Its handler has deleted it, and that is stored.
    deleted: bool,
    /// When it began, by both clocks.
    wall: Timestamp,
    now: Duration,
}

/// What became of a row that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// Its handler is to run.
    pub(crate) rings: bool,
    /// The write that has to be durable first.
    pub(crate) number: u64,
    /// A process died in it: how often by now, and when it rings next, or again if it dies again.
    pub(crate) died: Option<(u32, Timestamp)>,
}

/// What its handler, and the driver on behalf of the room, do with the alarm.
impl TurnMut<'_> {
    /// Sets or replaces the alarm (`Some`), or deletes it.
    pub(crate) fn write_alarm(&mut self, row: Option<AlarmRow>) {
        if let Some(turn) = &mut self.machine.turn {
            turn.misused |= !turn.overlay.is_open(self.scope.transaction);
            self.machine.gate.write();
            turn.overlay.merge(
                self.scope.transaction,
                self.machine.gate.written(),
                AlarmRow::batch(row),
            );
        }
    }

    /// See [`Machine::alarm`].
    pub(crate) fn lookup_alarm(&self) -> Lookup {
        self.machine.alarm(self.scope.transaction)
    }

    /// What has to be done before the start that is about to run: what it is for says so.
    pub(crate) fn errand(&mut self) -> Option<Errand> {
        let errand = match self.machine.mailbox.front()? {
            Event::Alarm { .. } => Errand::Alarm,
            Event::Order { order, .. } => Errand::Order(*order),
            _ => return None,
        };
        self.machine.turn.as_mut()?.errand = Some(errand);
        Some(errand)
    }

    /// The errand is done, and the room starts.
    pub(crate) fn errand_done(&mut self) {
        self.machine.turn.iter_mut().for_each(|turn| turn.errand = None);
    }

    /// The row that was read for the alarm that may be due, in a process of this age. If it is due, an
    /// attempt to ring it begins.
    pub(crate) fn begin_alarm(
        &mut self,
        age: Duration,
        wall: Timestamp,
        bell: impl Into<Bell>,
        spread: u64,
    ) -> Option<Beginning> {
        let found = bell.into();
        let key = found.key();
        self.is_attempt(&key, Some(&found));
        let machine = &mut *self.machine;
        let ahead = machine.turn.as_ref()?.errand.is_some();
        let mut is_due = found.times().rings() <= wall;
        let mut bell = found.clone();
        if let Some(attempt) = machine.attempts.of(&found) {
            if attempt.ahead {
                return Some(Beginning { rings: true, number: 0, died: None });
            }
            // It began in this process, which lives: something else than its handler has ended it.
            (bell, is_due) = (attempt.original.clone(), true);
        }
        // No failure of the turn takes back what is written here.
        machine.gate.write();
        let number = machine.gate.written();
        let mut beginning = Beginning { rings: false, number, died: None };
        let batch = if bell.times().is_parked() || !is_due {
            // The room was woken too early, and the runtime may have forgotten the time by that.
            bell.wake_up()
        } else {
            let died = bell.times().has_begun();
            let mut rest = Duration::ZERO;
            if died {
                bell = bell.with(bell.times().died());
                rest = bell.times().pause(spread).saturating_sub(age);
            }
            beginning.rings = rest.is_zero();
            let next = bell.with(match beginning.rings {
                true => bell.times().begins(wall, spread),
                false => bell.times().postponed(wall + rest),
            });
            beginning.died = died.then(|| (bell.alarm().deaths, next.times().rings()));
            machine.attempts.end(&machine.gate, |other| *other == key);
            let batch = Bell::replace(Some(&found), Some(&next));
            if beginning.rings {
                machine.attempts.begin(bell, next, ahead, &machine.gate);
            }
            batch
        };
        let turn = machine.turn.as_mut()?;
        turn.base = number;
        machine.gate.add(batch, turn.author());
        machine.begin_commit();
        Some(beginning)
    }

    /// What rings now: the attempt is stored, and its handler is to begin.
    pub(crate) fn about_to_ring(&self) -> Option<Bell> {
        self.machine.attempts.open().map(|attempt| attempt.original.clone())
    }

    /// Its handler begins. `next` is when it rings next.
    pub(crate) fn ring(
        &mut self,
        now: Duration,
        wall: Timestamp,
        next: Option<Timestamp>,
    ) -> Option<Bell> {
        let (turn, attempt) = (self.machine.turn.as_mut()?, self.machine.attempts.ring()?);
        let (bell, begun) = (attempt.original.clone(), attempt.begun.clone());
        if bell.plan().is_some() {
            turn.handler = Handler::OnSchedule;
        }
        turn.ringing = Some(Ringing { bell: bell.clone(), begun, next, deleted: false, wall, now });
        if !turn.called_off {
            // What it waited for until now was the store.
            turn.deadline = now.saturating_add(turn.limit);
        }
        Some(bell)
    }

    /// Whether what was read under a key is an attempt of this process.
    ///
    /// If it was read from the store, and is something else, there is no attempt any more: a failed commit
    /// can bring back one that a write has ended, and nothing else can.
    pub(crate) fn is_attempt(&mut self, key: &Bytes, row: Option<&Bell>) -> bool {
        if !self.lookup(key).is_known() {
            self.machine.attempts.stored(key, row);
        }
        row.is_some_and(|row| self.machine.attempts.of(row).is_some())
    }

    /// What is known of a row that was read: an attempt that this process has made is no death.
    pub(crate) fn known(&self, row: Bell) -> Bell {
        self.machine.attempts.of(&row).map_or(row, |attempt| attempt.original.clone())
    }
}

/// What is known of it, and what becomes of it when a handler has ended.
impl Machine {
    /// What the pending writes say of the alarm's row, to code inside a transaction. There is no alarm
    /// while its own handler runs, unless that has set one. Before that, an attempt is not seen.
    pub(super) fn alarm(&self, transaction: TransactionId) -> Lookup {
        let turn = self.turn.as_ref();
        let own: Vec<&Batch> =
            turn.iter().flat_map(|turn| turn.overlay.seen_from(transaction)).collect();
        let own = lookup(&own, &AlarmRow::KEY);
        match self.attempts.open() {
            _ if own.is_known() => own,
            // "Alarms": while its handler runs, no alarm is set.
            _ if turn.is_some_and(|turn| turn.rings(&AlarmRow::KEY)) => Lookup::Absent,
            Some(attempt) if attempt.ahead && attempt.begun.plan().is_none() => {
                Lookup::Value(attempt.original.encode())
            }
            _ => lookup(&self.layers(transaction), &AlarmRow::KEY),
        }
    }

    /// The handler of an alarm or a schedule succeeded. What repeats rings at its next time, and what does not is
    /// deleted. If the handler has set it again, that stands.
    pub(super) fn silence(&mut self, turn: &mut Turn) {
        if let Some(ringing) = turn.ringing.take()
            && !turn.overlay.own().writes.contains_key(&ringing.begun.key())
        {
            self.gate.write();
            let next = ringing.after().filter(|_| !turn.overlay.own().clear);
            let batch = Bell::replace(Some(&ringing.begun), next.as_ref());
            turn.overlay.merge(0, self.gate.written(), batch);
        }
        turn.end_attempts(&mut self.attempts, &self.gate);
    }

    /// The handler of an alarm or a schedule failed: it rings again later, or never. The caller learns that
    /// from the store. What failed before the handler began, or was called off, does not count as its failure.
    pub(super) fn retry_alarm(&mut self, now: Duration, turn: &mut Turn) {
        let ringing =
            turn.ringing.take().filter(|_| !(turn.void || turn.called_off && turn.cancelled));
        let Some(ringing) = ringing else {
            if !turn.void {
                self.restore_alarm(turn.author());
            }
            return;
        };
        // Both clocks were read in whole milliseconds at best. Rounded up, no pause is shorter for that.
        let took = now.saturating_sub(ringing.now);
        let wall = ringing.wall + took.saturating_add(Duration::from_nanos(999_999));
        let again = ringing.bell.times().retried(wall).map(|times| ringing.bell.with(times));
        let next = again.or_else(|| {
            self.outputs.push_back(match ringing.bell.plan() {
                None => Output::Fact(Fact::AlarmGivenUp),
                Some(plan) => Output::GivenUp(plan.clone(), ringing.next),
            });
            ringing.after()
        });
        self.gate.write();
        self.gate.add(Bell::replace(Some(&ringing.begun), next.as_ref()), turn.author());
        self.attempts.end(&self.gate, |key| *key == ringing.begun.key());
        if let Some(reply) = turn.reply.take() {
            self.emit(None, Effect::Respond(reply, Ok(Answer::Done)));
        }
    }

    /// Stores the alarm as it was before an attempt that came to nothing, and not by its own doing: it is
    /// due as before. Where the store cannot be reached, the next attempt in this process knows.
    pub(super) fn restore_alarm(&mut self, author: Author) {
        let Some(attempt) = self.attempts.certain() else { return };
        let (key, batch) =
            (attempt.begun.key(), Bell::replace(Some(&attempt.begun), Some(&attempt.original)));
        self.gate.write();
        self.gate.add(batch, author);
        self.attempts.end(&self.gate, |other| *other == key);
    }

    /// The server shuts down: an attempt whose handler has not begun is dropped.
    pub(super) fn drain_alarm(&mut self) {
        if self.turn.is_none() {
            self.restore_alarm((Handler::OnAlarm, None));
            self.begin_commit();
        }
    }
}

impl Turn {
    /// Whether it is the handler of the bell with this key.
    fn rings(&self, key: &Bytes) -> bool {
        self.ringing.as_ref().is_some_and(|ringing| ringing.begun.key() == *key)
    }

    /// Attempts whose rows a handler has written are over with that.
    pub(super) fn end_attempts(&self, attempts: &mut Attempts, gate: &Gate) {
        attempts.end(gate, |key| !self.rings(key) && self.has_written_row(key));
    }

    /// Whether the row with this key is among what it has written or deleted.
    fn has_written_row(&self, key: &Bytes) -> bool {
        let own = self.overlay.own();
        own.clear || own.writes.contains_key(key)
    }

    /// A part of what the handler did is committed before it ends. A bell that it has set by then stands in
    /// the place of the one that rings; but if it has deleted the row, that is not over yet.
    pub(super) fn keep_alarm(&mut self, number: u64) {
        let Some(ringing) = &mut self.ringing else { return };
        let own = self.overlay.own();
        let write = own.writes.get(&ringing.begun.key());
        if write.is_some_and(Option::is_some) {
            self.ringing = None;
        } else if write.is_some() || own.clear {
            ringing.deleted = true;
            self.overlay.merge(0, number, Bell::replace(None, Some(&ringing.begun)));
        }
    }
}

impl Ringing {
    /// What it is when its handler has succeeded.
    fn after(&self) -> Option<Bell> {
        let next = self.next.filter(|_| !self.deleted)?;
        Some(self.begun.with(AlarmRow::new(next)))
    }
}

/// What is to be done before a room starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    Alarm,
    Order(Order),
}
