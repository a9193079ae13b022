use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{
    effect::Effect,
    ids::{Scope, TransactionId, TurnId},
    roster::Roster,
};
use crate::{Batch, Connection, Handler};

/// Holds back what a room says until the writes before it are durable.
///
/// Writes are numbered. An effect carries the number of the last write before it and leaves when that
/// number is durable, in order: nothing overtakes. One commit is in flight at a time; what handlers
/// write meanwhile merges into the next.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// The number of the last write, uncommitted ones included.
    written: u64,
    /// The number of the last durable write.
    durable: u64,
    held: VecDeque<Held>,
    held_bytes: usize,
    waiting: Option<Pending>,
    in_flight: Option<Pending>,
    /// The gate property's positive control: with it, effects wait for nothing.
    #[cfg(test)]
    pub(crate) switched_off: bool,
}

#[derive(Debug)]
struct Held {
    number: u64,
    /// Whose code said it; `None` for what no handler said.
    by: Option<Scope>,
    effect: Effect,
}

/// What one commit will make durable.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The number of the last write in it.
    upto: u64,
    pub(crate) batch: Arc<Batch>,
    /// The connection states that its handlers replaced, oldest first.
    undo: Vec<(Connection, Option<Bytes>)>,
    /// Whose writes these are: the last handler that added to it.
    pub(crate) author: Author,
}

/// A handler and whose event it had.
pub(crate) type Author = (Handler, Option<Connection>);

impl Gate {
    /// The number of the last write.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Whether the write of this number is durable.
    pub(crate) fn is_durable(&self, number: u64) -> bool {
        number <= self.durable
    }

    /// Whether the write of this number is durable, or in the commit that is in flight.
    pub(crate) fn has_gone(&self, number: u64) -> bool {
        number <= self.in_flight.as_ref().map_or(self.durable, |pending| pending.upto)
    }

    /// Numbers one more write.
    pub(crate) fn write(&mut self) {
        self.written += 1;
    }

    /// Takes an effect, and who said it; returns it when it may leave at once.
    pub(crate) fn hold(&mut self, by: Option<Scope>, effect: Effect) -> Option<Effect> {
        // "What anyone was told is durable": nothing overtakes, not even what waits for no write.
        if self.held.is_empty() && self.passes(self.written) {
            return Some(effect);
        }
        self.held_bytes += effect.cost();
        self.held.push_back(Held { number: self.written, by, effect });
        None
    }

    /// The next effect that may leave.
    pub(crate) fn release(&mut self) -> Option<Effect> {
        let number = self.held.front()?.number;
        if !self.passes(number) {
            return None;
        }
        let effect = self.held.pop_front()?.effect;
        self.held_bytes -= effect.cost();
        Some(effect)
    }

    /// Takes back what `turn` said, as far as `is` holds for the transaction and the number of the last
    /// write before it. From now on `written` is the last write: what stays waits for that at most.
    pub(crate) fn take_back(
        &mut self,
        turn: TurnId,
        is: impl Fn(TransactionId, u64) -> bool,
        written: u64,
    ) -> Vec<Effect> {
        let mut taken_back = Vec::new();
        for mut held in std::mem::take(&mut self.held) {
            if held.by.is_some_and(|by| by.turn == turn && is(by.transaction, held.number)) {
                self.held_bytes -= held.effect.cost();
                taken_back.push(held.effect);
            } else {
                // "When a handler fails": what it said before its first write stands, and so does what
                // others said meanwhile. The writes that they followed are gone.
                held.number = held.number.min(written);
                self.held.push_back(held);
            }
        }
        self.written = written;
        taken_back
    }

    /// Adds a handler's writes to the batch that waits.
    pub(crate) fn add(&mut self, batch: Batch, author: Author) {
        let upto = self.written;
        match &mut self.waiting {
            // A commit is in flight, or another handler ended at the same moment: one batch for both.
            Some(waiting) => {
                Arc::make_mut(&mut waiting.batch).merge(batch);
                waiting.upto = upto;
                waiting.author = author;
            }
            None => {
                self.waiting = Some(Pending { upto, batch: Arc::new(batch), undo: vec![], author });
            }
        }
    }

    /// Remembers a connection state that was replaced, for the case that the pending commit fails. If
    /// nothing is pending, nothing can fail.
    pub(crate) fn remember(&mut self, connection: &Connection, before: Option<Bytes>) {
        if let Some(pending) = self.waiting.as_mut().or(self.in_flight.as_mut()) {
            pending.undo.push((connection.clone(), before));
        }
    }

    /// Puts the waiting batch in flight, unless one is.
    pub(crate) fn begin_commit(&mut self) -> Option<Arc<Batch>> {
        // One commit at a time, so that batches reach the store in the order of their writes.
        if self.in_flight.is_some() {
            return None;
        }
        self.in_flight = self.waiting.take();
        self.in_flight.as_ref().map(|pending| pending.batch.clone())
    }

    /// The commit in flight is durable.
    pub(crate) fn committed(&mut self) {
        if let Some(done) = self.in_flight.take() {
            self.durable = done.upto;
        }
    }

    /// The commit in flight failed, so everything after the last durable write is void. Returns the held
    /// effects, the connections whose state was restored, and the handler to report to `on_error`.
    pub(crate) fn failed(
        &mut self,
        roster: &mut Roster,
    ) -> (Vec<Effect>, Vec<Connection>, Option<Author>) {
        let void = [self.in_flight.take(), self.waiting.take()].into_iter().flatten();
        let mut undo = Vec::new();
        let mut author = None;
        for pending in void {
            undo.extend(pending.undo);
            // With a store that stays broken, `on_start` and `on_error` would call each other for ever.
            let is_told = !matches!(pending.author.0, Handler::OnError | Handler::OnStart);
            author = author.or(is_told.then_some(pending.author));
        }
        let mut restored = Vec::new();
        // "When a handler fails": the newest first, so that the oldest state is the one that stays.
        for (connection, before) in undo.into_iter().rev() {
            drop(roster.commit_state(&connection, before));
            restored.push(connection);
        }
        self.written = self.durable;
        self.held_bytes = 0;
        (self.held.drain(..).map(|held| held.effect).collect(), restored, author)
    }

    /// The batches over the store, newest first.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &Batch> {
        [&self.waiting, &self.in_flight].into_iter().flatten().map(|pending| &*pending.batch)
    }

    /// Whether a batch waits, or is in flight.
    pub(crate) fn has_pending(&self) -> bool {
        self.waiting.is_some() || self.in_flight.is_some()
    }

    pub(crate) fn is_committing(&self) -> bool {
        self.in_flight.is_some()
    }

    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn passes(&self, number: u64) -> bool {
        #[cfg(test)]
        if self.switched_off {
            return true;
        }
        self.is_durable(number)
    }
}
