//! What the turn does with schedules only.

use bytes::Bytes;

use super::super::{Machine, TurnMut};
use crate::{Batch, StorageError, WakeUp, storage::Bell};

impl TurnMut<'_> {
    /// The keys of what this process has begun to ring, the newest first.
    pub(crate) fn attempts(&self) -> Vec<Bytes> {
        self.machine.attempts.keys()
    }

    /// Puts the row of a schedule in the place of another, or of none: all of it, or nothing if that is too
    /// much for a handler.
    pub(crate) fn write_schedule(
        &mut self,
        last: Option<&Bell>,
        next: Option<&Bell>,
    ) -> Result<(), StorageError> {
        let Batch { writes, wake_up, .. } = Bell::replace(last, next);
        self.write(writes.into_iter().collect())?;
        if let Some(turn) = &mut self.machine.turn {
            let mark = Batch { wake_up, ..Batch::default() };
            turn.overlay.merge(self.scope.transaction, self.machine.gate.written(), mark);
        }
        Ok(())
    }

    /// What the handler sees of a schedule that has this row: not that it rings, or is about to.
    pub(crate) fn seen(&self, row: Bell) -> Option<Bell> {
        let ringing = self.machine.turn.as_ref().and_then(|turn| turn.ringing.as_ref());
        match ringing.filter(|ringing| ringing.begun == row) {
            Some(ringing) => ringing.after(),
            None => Some(self.known(row)),
        }
    }

    /// Removes a row from the order of the schedules that tells of none of them.
    pub(crate) fn heal(&mut self, order: Bytes) {
        let Machine { turn: Some(turn), gate, .. } = &mut *self.machine else { return };
        gate.write();
        turn.base = gate.written();
        let (writes, wake_up) = ([(order, None)].into(), Some(WakeUp::Never));
        gate.add(Batch { writes, wake_up, ..Batch::default() }, turn.author());
    }
}
