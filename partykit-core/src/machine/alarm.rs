//! The room's alarm: a row like any other, but that its batch also says when the room is to be woken,
//! and that it goes only when its handler has succeeded.
//!
//! An attempt to ring it is stored before anything of the user runs for it, with the time at which it rings
//! again if nothing more is stored. So a process that finds such a row knows that an earlier one died. If
//! anything else ends an attempt, that is not the alarm's fault, and the row from before comes back: in the
//! store where that can be reached, and in memory, which the next attempt looks at first.

use std::time::Duration;

use super::{
    Answer, Effect, Event, Fact, Machine, Output, TransactionId, TurnMut, gate::Author, turn::Turn,
};
use crate::{
    Alarm, Batch, Handler, Timestamp,
    storage::{AlarmRow, Lookup, lookup},
    value::order::Order,
};

/// The alarm whose handler runs.
pub(super) struct Ringing {
    row: AlarmRow,
    begun: AlarmRow,
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
        mut row: AlarmRow,
        spread: u64,
    ) -> Option<Beginning> {
        let is_stored = !self.lookup(&AlarmRow::KEY).is_known();
        let machine = &mut *self.machine;
        let ahead = machine.turn.as_ref()?.errand.is_some();
        if is_stored {
            machine.attempts.stored(Some(row));
        }
        let mut is_due = row.rings() <= wall;
        if let Some(attempt) = machine.attempts.of(row) {
            if attempt.ahead {
                return Some(Beginning { rings: true, number: 0, died: None });
            }
            // It began in this process, which lives: something else than its handler has ended it.
            (row, is_due) = (attempt.original, true);
        }
        // No failure of the turn takes back what is written here.
        machine.gate.write();
        let number = machine.gate.written();
        let mut beginning = Beginning { rings: false, number, died: None };
        let batch = if row.is_parked() || !is_due {
            // The room was woken too early, and the runtime may have forgotten the time by that.
            Batch { wake_up: AlarmRow::batch(Some(row)).wake_up, ..Batch::default() }
        } else {
            let died = row.has_begun();
            let mut rest = Duration::ZERO;
            if died {
                row = row.died();
                rest = row.pause(spread).saturating_sub(age);
            }
            beginning.rings = rest.is_zero();
            let next = match beginning.rings {
                true => row.begins(wall, spread),
                false => row.postponed(wall + rest),
            };
            beginning.died = died.then(|| (row.alarm().deaths, next.rings()));
            machine.attempts.end(&machine.gate);
            if beginning.rings {
                machine.attempts.begin(row, next, ahead, &machine.gate);
            }
            AlarmRow::batch(Some(next))
        };
        let turn = machine.turn.as_mut()?;
        turn.base = number;
        machine.gate.add(batch, turn.author());
        machine.begin_commit();
        Some(beginning)
    }

    /// The attempt is stored: its handler begins.
    pub(crate) fn ring(&mut self, now: Duration, wall: Timestamp) -> Option<Alarm> {
        let (turn, attempt) = (self.machine.turn.as_mut()?, self.machine.attempts.ring()?);
        let (row, begun) = (attempt.original, attempt.begun);
        turn.ringing = Some(Ringing { row, begun, wall, now });
        if !turn.called_off {
            // What it waited for until now was the store.
            turn.deadline = now.saturating_add(turn.limit);
        }
        Some(row.alarm())
    }

    /// There is no alarm: in the store, or because of a write that is on its way to it. A failed commit
    /// can bring back the attempt that such a write has ended.
    pub(crate) fn no_alarm(&mut self) {
        if !self.lookup(&AlarmRow::KEY).is_known() {
            self.machine.attempts.stored(None);
        }
    }

    /// What is known of a row that was read: an attempt that this process has made is no death.
    pub(crate) fn known_alarm(&self, row: AlarmRow) -> AlarmRow {
        self.machine.attempts.of(row).map_or(row, |attempt| attempt.original)
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
            _ if turn.is_some_and(|turn| turn.ringing.is_some()) => Lookup::Absent,
            Some(attempt) if attempt.ahead => Lookup::Value(attempt.original.encode()),
            _ => lookup(&self.layers(transaction), &AlarmRow::KEY),
        }
    }

    /// The handler of an alarm succeeded: unless it has set another, there is none any more.
    pub(super) fn silence(&mut self, turn: &mut Turn) {
        let rang = turn.ringing.take().is_some();
        if rang && !turn.overlay.own().writes.contains_key(&AlarmRow::KEY) {
            self.gate.write();
            turn.overlay.merge(0, self.gate.written(), AlarmRow::batch(None));
        }
        if turn.ends_attempt() {
            self.attempts.end(&self.gate);
        }
    }

    /// The handler of an alarm failed: it rings again later, or never. The caller learns that from the
    /// store. What failed before the handler began, or was called off, does not count as its failure.
    pub(super) fn retry_alarm(&mut self, now: Duration, turn: &mut Turn) {
        let ringing =
            turn.ringing.take().filter(|_| !(turn.void || turn.called_off && turn.cancelled));
        let Some(ringing) = ringing else {
            if !turn.void {
                self.restore_alarm(turn.author());
            }
            return;
        };
        // Both clocks were read in whole milliseconds at best: no pause is shorter for that.
        let took = now.saturating_sub(ringing.now).as_nanos().div_ceil(1_000_000);
        let wall = ringing.wall + Duration::from_millis(u64::try_from(took).unwrap_or(u64::MAX));
        let next = ringing.row.retried(wall);
        if next.is_none() {
            self.outputs.push_back(Output::Fact(Fact::AlarmGivenUp));
        }
        self.gate.write();
        self.gate.add(AlarmRow::batch(next), turn.author());
        self.attempts.end(&self.gate);
        if let Some(reply) = turn.reply.take() {
            self.emit(None, Effect::Respond(reply, Ok(Answer::Done)));
        }
    }

    /// Stores the alarm as it was before an attempt that came to nothing, and not by its own doing: it is
    /// due as before. Where the store cannot be reached, the next attempt in this process knows.
    pub(super) fn restore_alarm(&mut self, author: Author) {
        let Some(original) = self.attempts.certain().map(|attempt| attempt.original) else {
            return;
        };
        self.gate.write();
        self.gate.add(AlarmRow::batch(Some(original)), author);
        self.attempts.end(&self.gate);
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
    /// Whether the alarm is among what it has written: an attempt that went before is over with that.
    pub(super) fn ends_attempt(&self) -> bool {
        let own = self.overlay.own();
        self.ringing.is_none() && (own.clear || own.writes.contains_key(&AlarmRow::KEY))
    }

    /// A part of what the handler did is committed before it ends. An alarm that it has set by then
    /// stands in the place of the one that rings; but if it has deleted the row, that is not over yet.
    pub(super) fn keep_alarm(&mut self, number: u64) {
        let Some(ringing) = &self.ringing else { return };
        let own = self.overlay.own();
        let write = own.writes.get(&AlarmRow::KEY);
        if write.is_some_and(Option::is_some) {
            self.ringing = None;
        } else if write.is_some() || own.clear {
            self.overlay.merge(0, number, AlarmRow::batch(Some(ringing.begun)));
        }
    }
}

/// What is to be done before a room starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    Alarm,
    Order(Order),
}
