//! What a handler does to its room while it runs.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_core::future::BoxFuture;

use super::{
    CancelReason, Effect, Machine, Output, Reply, Status, Targets, TurnId,
    alarm::{Errand, Ringing},
    awake::Holder,
    gate::Author,
    ids::TransactionId,
    overlay::Overlay,
};
use crate::{
    Batch, Connection, Handler, KeyRange, StorageError,
    connection::outgoing::Outgoing,
    storage::Diff,
    value::{chain::Chain, limits},
};

/// One run of one handler: a transaction.
pub(super) struct Turn {
    pub(super) id: TurnId,
    pub(super) handler: Handler,
    /// Whose event it is.
    pub(super) connection: Option<Connection>,
    pub(super) chain: Chain,
    pub(super) reply: Option<Reply>,
    /// The alarm that it is the handler of.
    pub(super) ringing: Option<Ringing>,
    pub(super) deadline: Duration,
    pub(super) limit: Duration,
    /// The driver was given its handler: `on_start` has to wait for the claim first.
    pub(super) begun: bool,
    /// The driver was told to cancel it.
    pub(super) cancelled: bool,
    /// The number of the last write before its own.
    pub(super) base: u64,
    pub(super) overlay: Overlay,
    pub(super) spawns: Vec<(TransactionId, u64, BoxFuture<'static, ()>)>,
    /// What was said to the connection that is connecting: by which transaction, with the number of the
    /// last write of the turn before it, or 0. Its handshake has to be answered first.
    pub(super) deferred: Vec<(TransactionId, u64, Effect)>,
    /// The connection that is connecting has ended meanwhile.
    pub(super) gone: Option<crate::Close>,
    /// Some of what it wrote was handed to a commit already.
    pub(super) synced: bool,
    /// A commit of writes before it has failed: what it read is void, and so is all that it does.
    pub(super) void: bool,
    /// The memory of what it said and that may leave, but did not get the chance to yet.
    pub(super) said: usize,
    /// The memory of what it said and that waits for a commit.
    pub(super) held: usize,
    /// The memory of what is in `deferred`.
    deferred_cost: usize,
    /// It said too much: this many bytes.
    pub(super) overflow: Option<usize>,
    /// The server goes down, and has cut its time short.
    pub(super) called_off: bool,
    /// What it does before the room starts.
    pub(super) errand: Option<Errand>,
    /// How often some of what it wrote was handed to a commit.
    syncs: u64,
    /// A transaction was used after the one around it had ended: it did not do what was said.
    pub(super) misused: bool,
}

impl Turn {
    pub(super) fn new(
        id: TurnId,
        handler: Handler,
        connection: Option<Connection>,
        base: u64,
        deadline: Duration,
        limit: Duration,
    ) -> Self {
        Self {
            id,
            handler,
            connection,
            chain: Chain::new(),
            reply: None,
            ringing: None,
            deadline,
            limit,
            begun: handler != Handler::OnStart,
            cancelled: false,
            base,
            overlay: Overlay::default(),
            spawns: Vec::new(),
            deferred: Vec::new(),
            gone: None,
            synced: false,
            void: false,
            said: 0,
            held: 0,
            deferred_cost: 0,
            overflow: None,
            called_off: false,
            errand: None,
            syncs: 0,
            misused: false,
        }
    }

    pub(super) fn is_connecting(&self, connection: &Connection) -> bool {
        self.handler == Handler::OnConnect && self.connection.as_ref() == Some(connection)
    }

    pub(super) fn is_message_of(&self, connection: &Connection) -> bool {
        self.handler == Handler::OnMessage && self.connection.as_ref() == Some(connection)
    }

    /// Whether a failure would leave the instance at odds with storage or states.
    pub(super) fn has_written(&self) -> bool {
        self.void || self.synced || !self.overlay.is_empty() || self.overlay.has_states()
    }

    pub(super) fn author(&self) -> Author {
        (self.handler, self.connection.clone())
    }
}

impl Machine {
    /// The turn that runs, if it is this one.
    pub(crate) fn is_turn(&self, id: TurnId) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.id == id)
    }

    /// The id of the turn that runs.
    pub(crate) fn current_turn(&self) -> Option<TurnId> {
        self.turn.as_ref().map(|turn| turn.id)
    }

    /// The memory that the running handler would have taken for what it said, and what it may take, if
    /// that was too much.
    pub(crate) fn overflow(&self) -> Option<(usize, usize)> {
        self.turn.as_ref()?.overflow.map(|bytes| (bytes, self.options.said_bytes))
    }

    /// The bytes of messages to a connection that wait for the handler to await something or to end.
    pub(crate) fn unsent_to(&self, connection: &Connection) -> usize {
        let effects = self.outputs.iter().filter_map(|output| match output {
            Output::Effect(Effect::Frame { to, frame }) => Some((to, frame)),
            _ => None,
        });
        let own = effects.filter(|(to, _)| to.iter().any(|one| one == connection));
        own.map(|(_, frame)| frame.message().len()).sum()
    }

    pub(crate) fn chain(&self) -> Chain {
        self.turn.as_ref().map_or_else(Chain::new, |turn| turn.chain.clone())
    }

    /// Lists a connection with its tags: its `on_connect` is next.
    pub(crate) fn list(&mut self, connection: &Connection) {
        let gone = self.turn.as_ref().is_some_and(|turn| turn.gone.is_some());
        if !gone && self.roster.status(connection) == Some(Status::Connecting) {
            self.roster.list(connection);
        }
    }

    pub(crate) fn send(&mut self, turn: Option<TurnId>, to: &Connection, frame: Arc<Outgoing>) {
        if self.roster.status(to) == Some(Status::Open) {
            self.say(turn, Effect::Frame { to: Targets::One(to.clone()), frame });
        }
    }

    /// Sends to all listed connections, or those of a tag, but not to `except`.
    pub(crate) fn broadcast(
        &mut self,
        turn: Option<TurnId>,
        tag: Option<&str>,
        except: Vec<Connection>,
        frame: Arc<Outgoing>,
    ) {
        let all = match tag {
            None => self.roster.all(),
            Some(tag) => self.roster.tagged(tag).cloned().collect(),
        };
        if !all.is_empty() {
            self.say(turn, Effect::Frame { to: Targets::Many { all, except }, frame });
        }
    }

    pub(crate) fn close(
        &mut self,
        turn: Option<TurnId>,
        connection: &Connection,
        close: crate::Close,
    ) {
        if self.roster.status(connection) == Some(Status::Open) {
            self.roster.set_status(connection, Status::Closing);
            self.say(turn, Effect::Close(connection.clone(), close));
        }
    }

    pub(crate) fn tell(&mut self, turn: TurnId, to: crate::RoomAddress, request: crate::Request) {
        self.say(Some(turn), Effect::Tell { to, request: Box::new(request) });
    }

    /// Announces a task of the running handler: from now on it keeps the room awake. There is none
    /// any more while the room shuts down.
    pub(crate) fn reserve_task(&mut self, holder: Holder) -> Option<u64> {
        self.turn.as_ref().filter(|_| !self.draining)?;
        let now = self.accountant.now();
        let id = self.holders.add_task(now, holder);
        self.settle(now);
        Some(id)
    }

    /// Starts an announced task when the handler has committed.
    pub(crate) fn spawn(&mut self, id: u64, task: BoxFuture<'static, ()>) {
        if let Some(turn) = &mut self.turn {
            turn.spawns.push((self.transaction, id, task));
        }
    }

    /// The state that the running handler has set, if it has set one.
    pub(crate) fn pending_state(&self, connection: &Connection) -> Option<Option<Bytes>> {
        self.turn.as_ref()?.overlay.state(self.transaction, connection).cloned()
    }

    /// Whether a state of this many bytes would be too large for the room. Then returns how many bytes its
    /// connections would have attached.
    pub(crate) fn overfills(&self, connection: &Connection, state: usize) -> Option<usize> {
        let states = self.turn.as_ref().map_or_else(Vec::new, |turn| turn.overlay.states());
        let most = self.roster.attached() + state + states.len() * limits::ATTACHMENT;
        if most <= limits::ATTACHMENTS {
            return None;
        }
        let committed = |c: &Connection| c.committed_state().map_or(0, |state| state.len());
        let own = committed(connection);
        let others = states.iter().filter(|(c, _)| *c != connection);
        let (more, less) = others.fold((state, own), |(more, less), (c, state)| {
            (more + state.as_ref().map_or(0, Bytes::len), less + committed(c))
        });
        let total = (self.roster.attached() + more).saturating_sub(less);
        (total > limits::ATTACHMENTS && state > own).then_some(total)
    }

    pub(crate) fn set_state(&mut self, connection: &Connection, state: Option<Bytes>) {
        if let Some(turn) = &mut self.turn {
            turn.misused |= !turn.overlay.is_open(self.transaction);
            turn.overlay.set_state(self.transaction, connection, state);
        }
    }

    /// Sets a committed state and returns the one before.
    pub(crate) fn replace_state(
        &mut self,
        connection: &Connection,
        state: Option<Bytes>,
    ) -> Option<Bytes> {
        let before = connection.commit_state(state);
        self.roster.measure(connection);
        self.outputs.push_back(Output::Attach(connection.clone()));
        before
    }

    /// Puts (`Some`) or deletes rows: all of them, or none if they are too much for a handler.
    pub(crate) fn write(&mut self, rows: Vec<(Bytes, Option<Bytes>)>) -> Result<(), StorageError> {
        let Some(turn) = &mut self.turn else { return Ok(()) };
        if rows.is_empty() {
            // No commit would ever make its number durable.
            return Ok(());
        }
        turn.misused |= !turn.overlay.is_open(self.transaction);
        turn.overlay.write(self.transaction, self.gate.written() + 1, rows)?;
        self.gate.write();
        Ok(())
    }

    /// Deletes every row.
    pub(crate) fn clear(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.misused |= !turn.overlay.is_open(self.transaction);
            self.gate.write();
            turn.overlay.clear(self.transaction, self.gate.written());
        }
    }

    /// What the pending writes say of a key; `None` when the store has to be asked.
    pub(crate) fn lookup(&self, key: &[u8]) -> Option<Option<Bytes>> {
        crate::storage::lookup(&self.layers(), key)
    }

    /// What the pending writes change in a range.
    pub(crate) fn diff(&self, range: &KeyRange) -> Diff {
        Diff::over(&self.layers(), range)
    }

    fn layers(&self) -> Vec<&Batch> {
        let own = self.turn.iter().flat_map(|turn| turn.overlay.seen_from(self.transaction));
        own.chain(self.gate.pending()).collect()
    }

    /// Commits what the handler has written so far; returns the number to wait for. `None` while a
    /// transaction is open beside the code that asks: it has to end first.
    pub(crate) fn sync(&mut self) -> Result<Option<u64>, StorageError> {
        let written = self.gate.written();
        let Some(turn) = self.turn.as_mut().filter(|turn| !turn.void) else {
            return Ok(Some(written));
        };
        match (self.transaction, turn.overlay.innermost()) {
            (0, 0) => {}
            (0, _) => return Ok(None),
            _ => return Err(StorageError::SyncInTransaction),
        }
        turn.keep_alarm(written);
        self.end_attempt();
        let Some(turn) = &mut self.turn else { return Ok(Some(written)) };
        let author = turn.author();
        let (overlay, states) = turn.overlay.take();
        turn.base = written;
        turn.synced |= !overlay.is_empty() || !states.is_empty();
        turn.syncs += u64::from(!overlay.is_empty());
        if !overlay.is_empty() {
            self.gate.add(overlay, author);
        }
        for (connection, state) in states {
            let before = self.replace_state(&connection, state);
            self.gate.remember(&connection, before);
        }
        self.begin_commit();
        Ok(Some(written))
    }

    /// How often the running handler has handed writes to a commit before its end. A read during which
    /// this changes may have seen the store before and after.
    pub(crate) fn syncs(&self) -> u64 {
        self.turn.as_ref().map_or(0, |turn| turn.syncs)
    }

    pub(crate) fn has_uncommitted(&self) -> bool {
        self.turn.as_ref().is_some_and(|turn| !turn.overlay.is_empty())
    }

    pub(crate) fn written(&self) -> u64 {
        self.gate.written()
    }

    pub(crate) fn is_durable(&self, number: u64) -> bool {
        self.gate.is_durable(number)
    }

    /// Begins a transaction inside of the one whose code runs, or of the handler itself. `None` while
    /// another one is open there: it has to end first.
    pub(crate) fn begin_transaction(&mut self) -> Option<TransactionId> {
        match &mut self.turn {
            Some(turn) if turn.overlay.is_open(self.transaction) => {
                turn.overlay.begin(self.transaction)
            }
            Some(turn) => {
                turn.misused = true;
                Some(TransactionId::MAX)
            }
            None => Some(TransactionId::MAX),
        }
    }

    /// Ends a transaction; without `keep`, as if it had not begun. A transaction inside it that is still open
    /// is undone: its success was not reported yet.
    pub(crate) fn end_transaction(&mut self, id: TransactionId, keep: bool) {
        let Some(turn) = &mut self.turn else { return };
        if !turn.overlay.is_open(id) {
            // The one around it has ended before. If it succeeds now, somebody believes so in vain.
            turn.misused |= keep;
            return;
        }
        if let Some(inside) = turn.overlay.inside(id) {
            self.undo_transaction(inside);
        }
        let Some(turn) = &mut self.turn else { return };
        if keep {
            turn.overlay.keep();
        } else {
            self.undo_transaction(id);
        }
    }

    fn undo_transaction(&mut self, id: TransactionId) {
        let Some(turn) = &mut self.turn else { return };
        let (first, last) = turn.overlay.discard(id);
        let mut void = Vec::new();
        if let Some(first) = first {
            let of_it = |of: TransactionId, number: u64| of >= id && number >= first;
            void = self.gate.take_back(turn.id, of_it, last.max(turn.base));
            let said = turn.deferred.extract_if(.., |(of, number, _)| of_it(*of, *number));
            void.extend(said.map(|(.., effect)| effect));
        }
        let spawned = turn.spawns.extract_if(.., |(of, ..)| *of >= id);
        void.extend(spawned.map(|(_, id, task)| Effect::Spawn { id, task }));
        for effect in void {
            self.undo(effect);
        }
        if let Some(Turn { connection: Some(gone), gone: Some(_), .. }) = &self.turn {
            // Its close may be undone; it has ended all the same.
            self.roster.set_status(gone, Status::Closing);
        }
        self.release();
    }

    /// The handler has returned. Whether it used storage in a way that lost something it was told of.
    pub(crate) fn is_misused(&self) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.misused)
    }

    /// Undoes everything that a failed turn did, but what it said before its first write.
    pub(super) fn take_back(&mut self, turn: &mut Turn) {
        let base = turn.base;
        let mut void = self.gate.take_back(turn.id, |_, number| number > base, base);
        void.extend(turn.deferred.drain(..).map(|(.., effect)| effect));
        void.extend(turn.spawns.drain(..).map(|(_, id, task)| Effect::Spawn { id, task }));
        for effect in void {
            self.undo(effect);
        }
    }

    /// Emits an effect, unless it is for the connection that is connecting: its own come after the
    /// handshake's answer.
    fn say(&mut self, turn: Option<TurnId>, mut effect: Effect) {
        let cost = effect.cost();
        if turn.is_some() && !self.may_say(cost) {
            return self.undo(effect);
        }
        // No transaction of the handler takes back what others say: that is before every write.
        let written = if turn.is_some() { self.gate.written() } else { 0 };
        let within = if turn.is_some() { self.transaction } else { 0 };
        if let Some(Turn {
            connection: Some(new),
            deferred,
            deferred_cost,
            handler: Handler::OnConnect,
            ..
        }) = &mut self.turn
        {
            match &mut effect {
                Effect::Frame { to: Targets::One(to), .. } | Effect::Close(to, _) if to == new => {
                    deferred.push((within, written, effect));
                    *deferred_cost += cost;
                    return;
                }
                Effect::Frame { to: Targets::Many { all, except }, frame }
                    if all.contains(new) && !except.contains(new) =>
                {
                    let to = Targets::One(new.clone());
                    deferred.push((within, written, Effect::Frame { to, frame: frame.clone() }));
                    *deferred_cost += cost;
                    except.push(new.clone());
                }
                _ => {}
            }
        }
        let held = self.gate.held();
        self.emit(turn, effect);
        if turn.is_some()
            && let Some(turn) = &mut self.turn
        {
            let waits = if self.gate.held() > held { &mut turn.held } else { &mut turn.said };
            *waits += cost;
        }
    }

    /// Whether the running handler may say something that takes this much memory. When it may not, it
    /// is cancelled, and fails even if it is about to succeed.
    fn may_say(&mut self, cost: usize) -> bool {
        let Some(turn) = &mut self.turn else { return true };
        if turn.void || turn.overflow.is_some() {
            return false;
        }
        let limit = self.options.said_bytes;
        let bytes = turn.said + turn.held + turn.deferred_cost + cost;
        if bytes <= limit {
            return true;
        }
        turn.overflow = Some(bytes);
        if !turn.cancelled {
            turn.cancelled = true;
            self.outputs.push_back(Output::Cancel(CancelReason::SaidTooMuch { bytes, limit }));
        }
        false
    }
}
