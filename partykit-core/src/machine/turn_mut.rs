//! What the code of a handler does to its room while it runs.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_core::future::BoxFuture;

use super::{
    Effect, Machine, Roster, StartReason, WakeCause,
    awake::Holder,
    ids::{Scope, TransactionId},
    turn::Turn,
};
use crate::{
    Batch, Close, Connection, Handler, KeyRange, Message, Options, Request, RoomAddress,
    StateError, StorageError,
    connection::{
        outgoing::Shared,
        record::Status,
        tags::{TagError, Tags},
    },
    storage::{Diff, Lookup, lookup},
    value::{chain::Chain, limits},
};

/// The room in the hands of a handler that runs: what it does belongs to its turn.
#[derive(Debug)]
pub(crate) struct TurnMut<'a> {
    pub(super) machine: &'a mut Machine,
    pub(super) scope: Scope,
}

impl Machine {
    /// What the code of a turn may do; `None` if that turn is over. Nothing else asks that.
    pub(crate) fn turn(&mut self, scope: Scope) -> Option<TurnMut<'_>> {
        self.turn.as_ref().filter(|turn| turn.id == scope.turn)?;
        Some(TurnMut { machine: self, scope })
    }
}

/// What it sees.
impl TurnMut<'_> {
    pub(crate) fn options(&self) -> &Options {
        &self.machine.options
    }

    /// Which handler runs.
    pub(crate) fn handler(&self) -> Handler {
        self.machine.turn.as_ref().map_or(Handler::OnStart, |turn| turn.handler)
    }

    /// Whose event it handles.
    pub(crate) fn connection(&self) -> Option<Connection> {
        self.machine.turn.as_ref().and_then(|turn| turn.connection.clone())
    }

    pub(crate) fn start_reason(&self) -> StartReason {
        self.machine.start_reason
    }

    /// What woke the room last.
    pub(crate) fn wake_cause(&self) -> Option<WakeCause> {
        self.machine.accountant.last_wake()
    }

    pub(crate) fn roster(&mut self) -> &mut Roster {
        &mut self.machine.roster
    }

    /// The rooms whose call this turn answers.
    pub(crate) fn chain(&self) -> Chain {
        self.machine.turn.as_ref().map_or_else(Chain::new, |turn| turn.chain.clone())
    }

    /// The memory that the handler would have taken for what it said, and what it may take, if that was
    /// too much.
    pub(crate) fn overflow(&self) -> Option<(usize, usize)> {
        let bytes = self.machine.turn.as_ref()?.overflow?;
        Some((bytes, self.machine.options.said_bytes))
    }

    /// The handler has returned. Whether it used storage in a way that lost something it was told of.
    pub(crate) fn is_misused(&self) -> bool {
        self.machine.turn.as_ref().is_some_and(|turn| turn.misused)
    }

    /// The handler ran longer than it may, and could not be cancelled.
    pub(crate) fn overran(&mut self) {
        self.machine.accountant.overran();
    }
}

/// What it says. What is one too many comes back, to be dropped outside of all locks.
impl TurnMut<'_> {
    pub(crate) fn send(&mut self, to: &Connection, message: Message) -> Option<Effect> {
        self.machine.send_by(Some(self.scope), to, message)
    }

    /// Sends to all listed connections, or those of a tag, but not to `except`.
    pub(crate) fn broadcast(
        &mut self,
        tag: Option<&str>,
        except: &[Connection],
        frame: Arc<Shared>,
    ) -> Option<Effect> {
        self.machine.broadcast_by(Some(self.scope), tag, except, frame)
    }

    pub(crate) fn close(&mut self, connection: &Connection, close: Close) -> Option<Effect> {
        self.machine.close_by(Some(self.scope), connection.peer(), close)
    }

    pub(crate) fn tell(&mut self, to: RoomAddress, request: Request) -> Option<Effect> {
        let request = Box::new(request);
        self.machine.say(Some(self.scope), Effect::Tell { to, request })
    }

    /// Announces a task of the handler: from now on it keeps the room awake. `None` while the room
    /// shuts down: no task begins then.
    pub(crate) fn reserve_task(&mut self, now: Duration, holder: Holder) -> Option<u64> {
        if self.machine.draining {
            return None;
        }
        let id = self.machine.holders.add_task(now, holder);
        self.machine.settle(now);
        Some(id)
    }

    /// Starts an announced task when the handler has committed.
    pub(crate) fn spawn(&mut self, id: u64, task: BoxFuture<'static, ()>) {
        if let Some(turn) = &mut self.machine.turn {
            turn.spawns.push((self.scope.transaction, id, task));
        }
    }

    /// Keeps the room awake until the guard of this number [is dropped](Machine::guard_dropped).
    pub(crate) fn keep_awake(&mut self, now: Duration, holder: Holder) -> u64 {
        let id = self.machine.holders.add_guard(now, holder);
        self.machine.settle(now);
        id
    }

    /// Keeps the room awake until the body [has ended](Machine::body_ended).
    pub(crate) fn open_body(&mut self, now: Duration) {
        self.machine.holders.open_body();
        self.machine.settle(now);
    }
}

/// What it does with connections.
impl TurnMut<'_> {
    /// Lists a connection with its tags: its `on_connect` is next.
    pub(crate) fn list(&mut self, connection: &Connection, tags: Tags) -> Result<(), TagError> {
        let roster = &mut self.machine.roster;
        connection.set_tags(tags);
        let total = roster.attached() + connection.fixed_size();
        if total > limits::ATTACHMENTS {
            return Err(TagError::RoomTooLarge(total));
        }
        let is_gone = self.machine.turn.as_ref().is_some_and(|turn| turn.gone.is_some());
        if !is_gone && roster.status(connection.key()) == Some(Status::Connecting) {
            roster.list(connection);
        }
        Ok(())
    }

    /// The state that the handler has set; [`Lookup::Ask`] if it has set none.
    pub(crate) fn pending_state(&self, connection: &Connection) -> Lookup {
        let overlay = self.machine.turn.as_ref().map(|turn| &turn.overlay);
        let set = overlay.and_then(|it| it.state(self.scope.transaction, connection));
        set.map_or(Lookup::Ask, |state| state.clone().into())
    }

    pub(crate) fn set_state(
        &mut self,
        connection: &Connection,
        state: Option<Bytes>,
    ) -> Result<(), StateError> {
        self.machine.has_room_for(connection, state.as_ref())?;
        if let Some(turn) = &mut self.machine.turn {
            turn.misused |= !turn.overlay.is_open(self.scope.transaction);
            turn.overlay.set_state(self.scope.transaction, connection, state);
        }
        Ok(())
    }
}

/// What it does with storage.
impl TurnMut<'_> {
    /// Puts (`Some`) or deletes rows: all of them, or none if they are too much for a handler.
    pub(crate) fn write(&mut self, rows: Vec<(Bytes, Option<Bytes>)>) -> Result<(), StorageError> {
        let Machine { turn: Some(turn), gate, .. } = &mut *self.machine else { return Ok(()) };
        if rows.is_empty() {
            // No commit would ever make its number durable.
            return Ok(());
        }
        turn.misused |= !turn.overlay.is_open(self.scope.transaction);
        turn.overlay.write(self.scope.transaction, gate.written() + 1, rows)?;
        gate.write();
        Ok(())
    }

    /// Deletes every row.
    pub(crate) fn clear(&mut self) {
        if let Machine { turn: Some(turn), gate, .. } = &mut *self.machine {
            turn.misused |= !turn.overlay.is_open(self.scope.transaction);
            gate.write();
            turn.overlay.clear(self.scope.transaction, gate.written());
        }
    }

    /// What the pending writes say of a key.
    pub(crate) fn lookup(&self, key: &[u8]) -> Lookup {
        lookup(&self.machine.layers(self.scope.transaction), key)
    }

    /// What the pending writes change in a range.
    pub(crate) fn diff(&self, range: &KeyRange) -> Diff {
        Diff::over(&self.machine.layers(self.scope.transaction), range)
    }

    /// Commits what the handler has written so far; returns the number to wait for. `None` while a
    /// transaction is open beside the code that asks: it has to end first.
    pub(crate) fn sync(&mut self) -> Result<Option<u64>, StorageError> {
        let machine = &mut *self.machine;
        let written = machine.gate.written();
        let Some(turn) = machine.turn.as_mut().filter(|turn| !turn.void) else {
            return Ok(Some(written));
        };
        match (self.scope.transaction, turn.overlay.innermost()) {
            (0, 0) => {}
            (0, _) => return Ok(None),
            // Its end may still undo what would be durable by then.
            _ => return Err(StorageError::SyncInTransaction),
        }
        turn.keep_alarm(written);
        turn.end_attempts(&mut machine.attempts, &machine.gate);
        let author = turn.author();
        let (overlay, states) = turn.overlay.take();
        // A failure from here on takes back nothing of what is committed now.
        turn.base = written;
        turn.synced |= !overlay.is_empty() || !states.is_empty();
        turn.syncs += u64::from(!overlay.is_empty());
        machine.keep(overlay, states, author);
        machine.begin_commit();
        Ok(Some(written))
    }

    /// How often the handler has handed writes to a commit before its end. A read during which this
    /// changes may have seen the store before and after.
    pub(crate) fn syncs(&self) -> u64 {
        self.machine.turn.as_ref().map_or(0, |turn| turn.syncs)
    }

    pub(crate) fn has_uncommitted(&self) -> bool {
        self.machine.turn.as_ref().is_some_and(|turn| !turn.overlay.is_empty())
    }

    /// The number of the room's last write.
    pub(crate) fn written(&self) -> u64 {
        self.machine.gate.written()
    }

    pub(crate) fn is_durable(&self, number: u64) -> bool {
        self.machine.gate.is_durable(number)
    }

    /// Begins a transaction inside of the one whose code runs, or of the handler itself. `None` while
    /// another one is open there: it has to end first.
    pub(crate) fn begin_transaction(&mut self) -> Option<TransactionId> {
        match &mut self.machine.turn {
            Some(turn) if turn.overlay.is_open(self.scope.transaction) => {
                turn.overlay.begin(self.scope.transaction)
            }
            // The transaction around it has ended. What this one does is lost, so the handler fails.
            Some(turn) => {
                turn.misused = true;
                Some(TransactionId::MAX)
            }
            None => Some(TransactionId::MAX),
        }
    }

    /// Ends a transaction; without `keep`, as if it had not begun. A transaction inside it that is still open
    /// is undone: its success was not reported yet.
    pub(crate) fn end_transaction(&mut self, now: Duration, id: TransactionId, keep: bool) {
        self.machine.end_transaction(now, id, keep);
    }
}

impl Machine {
    /// The writes that code inside a transaction sees, newest first: its own, then those that are on
    /// their way to the store.
    pub(super) fn layers(&self, transaction: TransactionId) -> Vec<&Batch> {
        let own = self.turn.iter().flat_map(|turn| turn.overlay.seen_from(transaction));
        own.chain(self.gate.pending()).collect()
    }

    pub(super) fn end_transaction(&mut self, now: Duration, id: TransactionId, keep: bool) {
        let Some(turn) = &mut self.turn else { return };
        if !turn.overlay.is_open(id) {
            // The transaction around it has ended before, so its own success would mean nothing.
            turn.misused |= keep;
            return;
        }
        if let Some(inside) = turn.overlay.inside(id) {
            self.undo_transaction(now, inside);
        }
        let Some(turn) = &mut self.turn else { return };
        if keep {
            turn.overlay.keep();
        } else {
            self.undo_transaction(now, id);
        }
    }

    fn undo_transaction(&mut self, now: Duration, id: TransactionId) {
        let Some(turn) = &mut self.turn else { return };
        let (first, last) = turn.overlay.discard(id);
        let mut void = Vec::new();
        if let Some(first) = first {
            // What was said before the first write of the transaction stands.
            let of_it = |of: TransactionId, number: u64| of >= id && number >= first;
            void = self.gate.take_back(turn.id, of_it, last.max(turn.base));
            let said = turn.deferred.extract_if(.., |(of, number, _)| of_it(*of, *number));
            void.extend(said.map(|(.., effect)| effect));
        }
        let spawned = turn.spawns.extract_if(.., |(of, ..)| *of >= id);
        void.extend(spawned.map(|(_, id, task)| Effect::Spawn { id, task }));
        for effect in void {
            self.undo(now, effect);
        }
        if let Some(Turn { connection: Some(gone), gone: Some(_), .. }) = &self.turn {
            // Its close may be undone; it has ended all the same.
            self.roster.set_status(gone.key(), Status::Closing);
        }
        self.release();
    }

    /// Undoes everything that a failed turn did, but what it said before its first write.
    pub(super) fn take_back(&mut self, now: Duration, turn: &mut Turn) {
        let base = turn.base;
        let mut void = self.gate.take_back(turn.id, |_, number| number > base, base);
        void.extend(turn.deferred.drain(..).map(|(.., effect)| effect));
        void.extend(turn.spawns.drain(..).map(|(_, id, task)| Effect::Spawn { id, task }));
        for effect in void {
            self.undo(now, effect);
        }
    }
}
