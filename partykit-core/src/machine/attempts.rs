//! The attempts to ring the alarm or a schedule that this process has made, for as long as the store may hold one.
//!
//! More than one may be kept. What ends an attempt is a write, too: until that is durable, a failed
//! commit can bring the attempt's row back. The process lives, so such a row is not a death.

use bytes::Bytes;

use super::gate::Gate;
use crate::storage::Bell;

#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// The oldest first.
    kept: Vec<Attempt>,
}

/// An attempt that is stored, or on its way to the store.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The row that it goes back to if something else than its handler ends it.
    pub(super) original: Bell,
    pub(super) begun: Bell,
    /// It was made before the room started; its handler is still to come.
    pub(super) ahead: bool,
    /// The write that began it.
    number: u64,
    /// The write after which it is over; `None` while it is open.
    ended: Option<u64>,
    /// A commit has failed since it began: it is unknown whether the store holds it.
    doubtful: bool,
}

impl Attempts {
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The newest attempt, if it has not ended.
    pub(super) fn open(&self) -> Option<&Attempt> {
        self.kept.last().filter(|attempt| attempt.ended.is_none())
    }

    /// The same, if it is certain that the store holds it, or will.
    pub(super) fn certain(&self) -> Option<&Attempt> {
        self.open().filter(|attempt| !attempt.doubtful)
    }

    /// The keys of those that have not ended, the newest first.
    #[cfg(feature = "schedules")]
    pub(super) fn keys(&self) -> Vec<Bytes> {
        let open = self.kept.iter().rev().filter(|attempt| attempt.ended.is_none());
        open.map(|attempt| attempt.begun.key()).collect()
    }

    /// The attempt that this row tells of; `None` if another process has made it, or if it is over.
    pub(super) fn of(&self, row: &Bell) -> Option<&Attempt> {
        self.kept.iter().rfind(|attempt| attempt.ended.is_none() && attempt.begun == *row)
    }

    /// An attempt begins with the last write.
    pub(super) fn begin(&mut self, original: Bell, begun: Bell, ahead: bool, gate: &Gate) {
        let number = gate.written();
        let (ended, doubtful) = (None, false);
        self.kept.push(Attempt { original, begun, ahead, number, ended, doubtful });
    }

    /// The handler of the newest attempt begins.
    pub(super) fn ring(&mut self) -> Option<&Attempt> {
        let attempt = self.kept.last_mut()?;
        attempt.ahead = false;
        Some(attempt)
    }

    /// The last write puts another row, or none, in the place of the rows of attempts with these keys.
    pub(super) fn end(&mut self, gate: &Gate, is: impl Fn(&Bytes) -> bool) {
        let number = gate.written();
        let open = self.kept.iter_mut().filter(|attempt| attempt.ended.is_none());
        open.filter(|attempt| is(&attempt.begun.key()))
            .for_each(|attempt| attempt.ended = Some(number));
        // One that waits is in the same batch as its end, and no store will ever hold it.
        let is_out = |attempt: &Attempt| attempt.doubtful || gate.has_gone(attempt.number);
        self.kept.retain(|attempt| attempt.ended.is_none() || is_out(attempt));
    }

    /// A commit is stored: what ended with it is over.
    pub(super) fn committed(&mut self, gate: &Gate) {
        self.kept.retain(|attempt| attempt.ended.is_none_or(|ended| !gate.is_durable(ended)));
    }

    /// A commit failed: what was to begin or to end an attempt may be stored or not.
    pub(super) fn commit_failed(&mut self) {
        for attempt in &mut self.kept {
            (attempt.ended, attempt.ahead, attempt.doubtful) = (None, false, true);
        }
    }

    /// The store was asked, while nothing is on its way to it, and holds this row under this key.
    pub(super) fn stored(&mut self, key: &Bytes, row: Option<&Bell>) {
        self.kept.retain(|attempt| attempt.begun.key() != *key || Some(&attempt.begun) == row);
    }
}
