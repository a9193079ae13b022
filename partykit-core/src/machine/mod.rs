//! The sans-IO room: what happens goes in with the time at which it happens, what is to be done comes
//! out. No clock, no socket, no future is touched here, so the same calls always give the same outputs.
//!
//! This file has every transition between sleeping, waking and awake, and the fate of every event.
//! What a handler does while it runs stands in [`turn`].

mod account;
mod awake;
mod events;
mod gate;
mod mailbox;
#[cfg(test)]
mod properties;
mod roster;
#[cfg(test)]
mod tests;
mod turn;

use std::{collections::VecDeque, fmt, time::Duration};

pub use account::Account;
pub use awake::AwakeReason;
pub use events::{StartReason, WakeCause};

pub(crate) use awake::Holder;
pub(crate) use events::{
    Answer, CancelReason, Discard, Effect, Event, Failed, Job, Output, Reply, Targets, TurnId,
};
pub(crate) use roster::Roster;

use self::{
    account::Accountant, awake::Holders, events::handler_of, gate::Gate, mailbox::Mailbox,
    roster::Status, turn::Turn,
};
use crate::{
    Claim, Close, CloseCode, Connection, Epoch, ErrorId, Handler, HandlerError, Options, Refusal,
    error::Failure, limits,
};

/// So many turns may end before what they said has to leave, when events keep coming.
const TURNS_PER_FLUSH: u32 = 256;

/// One room.
pub(crate) struct Machine {
    options: Options,
    phase: Phase,
    roster: Roster,
    mailbox: Mailbox,
    /// Connections to be closed when what they said is handled.
    condemned: Vec<(Connection, Close)>,
    gate: Gate,
    holders: Holders,
    accountant: Accountant,
    turn: Option<Turn>,
    last_turn: TurnId,
    epoch: Option<Epoch>,
    start_reason: StartReason,
    /// Failed starts in a row.
    start_failures: u32,
    refused_until: Duration,
    /// Until when failed starts are remembered: a room that nobody holds on to would begin to count
    /// anew with each event.
    remembered_until: Option<Duration>,
    idle_since: Duration,
    draining: bool,
    outputs: VecDeque<Output>,
    /// Something was queued at a socket since the last flush.
    unflushed: bool,
    turns_unflushed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No instance.
    Asleep,
    /// The room is being claimed, or `on_start` runs.
    Waking,
    Awake,
}

impl Machine {
    pub(crate) fn new(options: Options, now: Duration) -> Self {
        Self {
            options,
            phase: Phase::Asleep,
            roster: Roster::default(),
            mailbox: Mailbox::default(),
            condemned: Vec::new(),
            gate: Gate::default(),
            holders: Holders::default(),
            accountant: Accountant::new(now),
            turn: None,
            last_turn: 0,
            epoch: None,
            start_reason: StartReason::First,
            start_failures: 0,
            refused_until: Duration::ZERO,
            remembered_until: None,
            idle_since: now,
            draining: false,
            outputs: VecDeque::new(),
            unflushed: false,
            turns_unflushed: 0,
        }
    }

    /// Something happens. What the room cannot take comes back, with the reason.
    pub(crate) fn push(&mut self, now: Duration, event: Event) -> Result<(), (Refusal, Event)> {
        if let Err(refusal) = self.admits(now, &event) {
            return Err((refusal, event));
        }
        match &event {
            Event::Connect { connection, .. } => self.roster.insert(connection.clone()),
            Event::Message { sender, .. } if self.roster.status(sender) != Some(Status::Open) => {
                self.discard(Discard::Event(event));
                return Ok(());
            }
            _ => {}
        }
        self.mailbox.push(event);
        self.advance(now);
        Ok(())
    }

    /// A socket has ended. Unknown ones are ignored, so it may be said more than once.
    pub(crate) fn closed(&mut self, now: Duration, connection: &Connection, close: Close) {
        let Some(status) = self.roster.status(connection) else { return };
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.is_connecting(connection)) {
            turn.gone.get_or_insert(close);
            self.roster.set_status(connection, Status::Closing);
            return;
        }
        self.roster.remove(connection);
        if status == Status::Connecting {
            let is_it = |event: &Event| matches!(event, Event::Connect { connection: c, .. } if c == connection);
            if let Some(event) = self.mailbox.remove(is_it) {
                self.discard(Discard::Event(event));
            }
        } else if !self.draining {
            let event = Event::Close { connection: connection.clone(), close };
            if now < self.refused_until {
                self.mailbox.keep(event);
            } else {
                self.mailbox.push(event);
            }
        }
        self.idle_since = now;
        self.advance(now);
    }

    /// Closes a connection, but not before what it has said is handled.
    pub(crate) fn hang_up(&mut self, now: Duration, connection: &Connection, close: Close) {
        self.condemned.push((connection.clone(), close));
        self.advance(now);
    }

    /// The claim has ended; with it, `on_start` begins.
    pub(crate) fn claimed(&mut self, now: Duration, claim: Result<Claim, Failed>) {
        match claim {
            Ok(claim) => {
                self.epoch = Some(claim.epoch);
                let empty = claim.empty && self.gate.pending().next().is_none();
                self.begin_start(empty);
            }
            Err(failed) => self.turn_ended(now, Err(failed)),
        }
    }

    /// The running handler has ended.
    pub(crate) fn turn_ended(&mut self, now: Duration, result: Result<Answer, Failed>) {
        let Some(turn) = self.turn.take() else { return };
        self.idle_since = now;
        match result {
            Ok(answer) => self.finish(turn, answer),
            Err(failed) => self.fail(now, turn, failed),
        }
        self.begin_commit();
        self.advance(now);
    }

    /// The commit in flight has ended.
    pub(crate) fn commit_ended(&mut self, now: Duration, result: Result<(), Failed>) {
        self.idle_since = now;
        match result {
            Ok(()) => {
                self.gate.committed();
                self.begin_commit();
                self.release();
            }
            Err(failed) => self.commit_failed(failed),
        }
        self.advance(now);
    }

    /// A value of a task arrives; those of a cancelled task do not.
    pub(crate) fn task_says(
        &mut self,
        now: Duration,
        id: u64,
        event: Event,
    ) -> Result<(), (Refusal, Event)> {
        if !self.holders.has_task(id) {
            self.discard(Discard::Event(event));
            return Ok(());
        }
        self.push(now, event)
    }

    /// A task has ended, with its last event.
    pub(crate) fn task_ended(&mut self, now: Duration, id: u64, event: Event) {
        self.idle_since = now;
        if self.holders.end_task(id) && !self.draining {
            self.mailbox.push(event);
        } else {
            self.discard(Discard::Event(event));
        }
        self.advance(now);
    }

    pub(crate) fn guard_taken(&mut self, holder: awake::Holder) -> u64 {
        self.holders.add_guard(holder)
    }

    pub(crate) fn guard_dropped(&mut self, now: Duration, id: u64) {
        if self.holders.end_guard(id) {
            self.idle_since = now;
            self.advance(now);
        }
    }

    pub(crate) fn body_opened(&mut self) {
        self.holders.open_body();
    }

    pub(crate) fn body_ended(&mut self, now: Duration) {
        self.holders.end_body();
        self.idle_since = now;
        self.advance(now);
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Duration) {
        if let Some(turn) =
            self.turn.as_mut().filter(|turn| now >= turn.deadline && !turn.cancelled)
        {
            turn.cancelled = true;
            self.outputs.push_back(Output::Cancel(CancelReason::Timeout(turn.limit)));
        }
        if self.remembered_until.is_some_and(|until| now >= until) {
            self.remembered_until = None;
        }
        self.advance(now);
    }

    /// Sleeps at once, unless there is a reason not to.
    pub(crate) fn hibernate(&mut self, now: Duration) -> Result<(), Vec<AwakeReason>> {
        let reasons = self.reasons();
        if !reasons.is_empty() {
            return Err(reasons);
        }
        if self.phase == Phase::Awake {
            self.sleep(now);
        }
        Ok(())
    }

    /// The server goes down: what runs may end, nothing else begins.
    pub(crate) fn drain(&mut self, now: Duration) {
        if self.draining {
            return;
        }
        self.draining = true;
        self.mailbox.unkeep();
        while let Some(event) = self.mailbox.pop() {
            self.fail_event(event, Refusal::ShuttingDown);
        }
        self.cancel_tasks();
        self.advance(now);
    }

    /// The next thing to do.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() && self.unflushed {
            (self.unflushed, self.turns_unflushed) = (false, 0);
            return Some(Output::Flush);
        }
        output
    }

    /// When [`Machine::tick`] wants to be called.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match &self.turn {
            Some(turn) if turn.cancelled => None,
            Some(turn) => Some(turn.deadline),
            None if self.phase == Phase::Awake && self.reasons().is_empty() => {
                Some(self.idle_since + self.options.hibernate_after)
            }
            None if self.phase == Phase::Asleep => self.remembered_until,
            None => None,
        }
    }

    /// Why the room does not sleep. Empty when it sleeps or only waits for its idle time.
    pub(crate) fn reasons(&self) -> Vec<AwakeReason> {
        let mut reasons = Vec::new();
        if let Some(turn) = &self.turn {
            reasons.push(AwakeReason::Handler(turn.handler));
        }
        if !self.mailbox.is_empty() {
            reasons.push(AwakeReason::Mailbox(self.mailbox.len()));
        }
        if self.gate.pending().next().is_some() || self.gate.held() > 0 {
            reasons.push(AwakeReason::Commit);
        }
        if !self.draining {
            reasons.extend(self.holders.reasons());
            if !self.options.hibernate && self.phase == Phase::Awake && self.roster.len() > 0 {
                reasons.push(AwakeReason::Connections(self.roster.len()));
            }
        }
        reasons
    }

    /// Nothing is left of the room but what is in storage.
    pub(crate) fn is_vacant(&self) -> bool {
        self.is_at_rest()
            && self.roster.len() == 0
            && !self.mailbox.has_kept()
            && self.holders.is_empty()
    }

    /// Asleep, and nothing is to be done.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.phase == Phase::Asleep
            && self.turn.is_none()
            && self.mailbox.is_empty()
            && self.gate.pending().next().is_none()
            && self.outputs.is_empty()
            && !self.unflushed
            && (self.remembered_until.is_none() || self.draining)
    }

    /// How many events wait.
    pub(crate) fn waiting(&self) -> usize {
        self.mailbox.len()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Gives the claim back: the next start claims anew.
    pub(crate) fn release_claim(&mut self) -> Option<Epoch> {
        self.epoch.take()
    }

    pub(crate) fn start_reason(&self) -> StartReason {
        self.start_reason
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn roster(&mut self) -> &mut Roster {
        &mut self.roster
    }

    pub(crate) fn has_space(&self) -> bool {
        !self.mailbox.is_full(self.options.mailbox_events, self.options.mailbox_bytes)
    }

    pub(crate) fn idle_since(&self) -> Duration {
        self.idle_since
    }

    /// A handler ran longer than it may, and could not be cancelled.
    pub(crate) fn overran(&mut self) {
        self.accountant.overran();
    }

    pub(crate) fn account(&self, now: Duration) -> Account {
        self.accountant.account(now)
    }

    fn admits(&mut self, now: Duration, event: &Event) -> Result<(), Refusal> {
        if self.draining {
            return Err(Refusal::ShuttingDown);
        }
        if now < self.refused_until {
            if matches!(event, Event::Message { .. }) {
                self.accountant.dropped_message();
            }
            return Err(Refusal::Unavailable(self.refused_until - now));
        }
        if matches!(event, Event::Connect { .. })
            && self.roster.len() >= self.options.max_connections
        {
            return Err(Refusal::Full);
        }
        if self.has_space() { Ok(()) } else { Err(Refusal::Overloaded) }
    }

    /// Takes the next step that is due, if one is.
    fn advance(&mut self, now: Duration) {
        self.close_condemned();
        if self.turn.is_none() {
            match self.phase {
                Phase::Asleep => self.wake(now),
                Phase::Waking => {}
                Phase::Awake => self.run_next(now),
            }
        }
        let active = self.turn.is_some() || self.gate.is_committing() || self.holders.tasks() > 0;
        self.accountant.settle(now, self.phase != Phase::Asleep, active);
    }

    fn close_condemned(&mut self) {
        if self.condemned.is_empty() {
            return;
        }
        let is_heard = |connection: &Connection| {
            let runs = self.turn.as_ref().is_some_and(|turn| turn.is_message_of(connection));
            !runs && !self.mailbox.has_message_of(connection)
        };
        let heard: Vec<_> =
            self.condemned.extract_if(.., |(connection, _)| is_heard(connection)).collect();
        for (connection, close) in heard {
            self.close(None, &connection, close);
        }
    }

    fn wake(&mut self, now: Duration) {
        let Some(cause) = self.mailbox.wake_cause() else { return };
        let (deadline, limit) = match self.mailbox.front() {
            Some(Event::Connect { arrived, .. }) => {
                (*arrived + self.options.connect_timeout, self.options.connect_timeout)
            }
            _ => (now + self.options.handler_timeout, self.options.handler_timeout),
        };
        self.accountant.woke(now, cause);
        self.phase = Phase::Waking;
        self.begin_turn(Handler::OnStart, None, deadline, limit);
        // A new claim would fence off the commit that is in flight.
        let commits = self.gate.pending().next().is_some();
        if self.epoch.is_some() && (commits || self.roster.count() > 0) {
            self.begin_start(false);
        } else {
            self.outputs.push_back(Output::Claim);
        }
    }

    fn begin_start(&mut self, empty: bool) {
        self.start_reason = match (self.roster.count(), empty) {
            (0, true) => StartReason::First,
            (0, false) => StartReason::Restart,
            _ => StartReason::Wake,
        };
        self.outputs.push_back(Output::Run(Job::Start));
    }

    fn run_next(&mut self, now: Duration) {
        if self.gate.held_bytes() > self.options.held_bytes {
            return;
        }
        let Some(event) = self.mailbox.pop() else {
            let idle = now.saturating_sub(self.idle_since);
            if self.reasons().is_empty() && (self.draining || idle >= self.options.hibernate_after)
            {
                self.sleep(now);
            }
            return;
        };
        self.turns_unflushed += 1;
        if self.turns_unflushed > TURNS_PER_FLUSH && self.unflushed {
            (self.unflushed, self.turns_unflushed) = (false, 0);
            self.outputs.push_back(Output::Flush);
        }
        self.run(now, event);
    }

    fn run(&mut self, now: Duration, event: Event) {
        let handler = handler_of(&event);
        let limit = self.options.handler_timeout;
        let (deadline, limit, connection) = match &event {
            Event::Connect { connection, arrived, .. } => {
                let limit = self.options.connect_timeout;
                (*arrived + limit, limit, Some(connection))
            }
            Event::Close { connection, .. } | Event::Message { sender: connection, .. } => {
                (now + limit, limit, Some(connection))
            }
            _ => (now + limit, limit, None),
        };
        let connection = connection.cloned();
        let turn = self.begin_turn(handler, connection, deadline, limit);
        let job = match event {
            Event::Close { connection, close } => Job::Close { connection, close },
            Event::Connect { connection, request, arrived } => {
                Job::Connect { connection, request, arrived }
            }
            Event::Error(error) => Job::Error(error),
            Event::Message { sender, message } => Job::Message { sender, message },
            Event::Request { request, chain, reply } => {
                (turn.chain, turn.reply) = (chain, reply);
                Job::Request { request }
            }
            Event::Task(result) => Job::Task(result),
        };
        self.outputs.push_back(Output::Run(job));
    }

    fn begin_turn(
        &mut self,
        handler: Handler,
        connection: Option<Connection>,
        deadline: Duration,
        limit: Duration,
    ) -> &mut Turn {
        debug_assert!(self.turn.is_none(), "never two handlers at once");
        self.last_turn += 1;
        let turn =
            Turn::new(self.last_turn, handler, connection, self.gate.written(), deadline, limit);
        self.turn.insert(turn)
    }

    /// A handler succeeded: what it did holds.
    fn finish(&mut self, mut turn: Turn, answer: Answer) {
        if !turn.overlay.is_empty() {
            self.gate.add(std::mem::take(&mut turn.overlay), turn.author());
        }
        for (connection, state) in std::mem::take(&mut turn.states) {
            let before = connection.commit_state(state);
            self.gate.remember(&connection, before);
        }
        if turn.handler == Handler::OnStart {
            self.phase = Phase::Awake;
            self.start_failures = 0;
            self.remembered_until = None;
            self.mailbox.unkeep();
        }
        if turn.handler == Handler::OnConnect
            && let Some(connection) = turn.connection.clone()
        {
            self.emit(None, Effect::Accept(connection.clone()));
            for (_, effect) in turn.deferred {
                self.emit(None, effect);
            }
            if let Some(close) = turn.gone {
                self.roster.remove(&connection);
                if !self.draining {
                    self.mailbox.push(Event::Close { connection, close });
                }
            }
        }
        if let Answer::Response(response) = answer {
            match turn.reply {
                Some(reply) => self.emit(None, Effect::Respond(reply, Ok(response))),
                None => self.discard(Discard::Response(response)),
            }
        }
        for (id, task) in turn.spawns {
            self.emit(None, Effect::Spawn { id, task });
        }
    }

    /// A handler failed: nothing of what it did holds, but what it said before its first write.
    fn fail(&mut self, now: Duration, mut turn: Turn, failed: Failed) {
        let resets = turn.has_written() || !matches!(failed.failure, Failure::Error(_));
        self.take_back(&mut turn);
        let refusal = Refusal::Failed(failed.id);
        if turn.handler == Handler::OnConnect
            && let Some(connection) = &turn.connection
        {
            self.roster.remove(connection);
            self.outputs.push_back(Output::Refuse(connection.clone(), closed_by(refusal)));
        }
        if let Some(reply) = turn.reply.take() {
            self.emit(None, Effect::Respond(reply, Err(refusal)));
        }
        self.release();
        if turn.handler == Handler::OnStart {
            match failed.failure {
                // An earlier handler's commit, not the start, has failed: the next start is for the
                // same event, and for the on_error that is before it now.
                Failure::Commit(_) if !turn.synced => self.reset(),
                _ => self.start_failed(now, failed.id),
            }
            self.discard(Discard::Failed(failed));
            return;
        }
        if resets {
            self.reset();
        }
        if turn.handler == Handler::OnError || self.draining {
            self.discard(Discard::Failed(failed));
            return;
        }
        let Failed { failure, id } = failed;
        let (handler, connection) = turn.author();
        self.mailbox.push_front(Event::Error(HandlerError { handler, connection, failure, id }));
    }

    /// `on_start` failed, and with it the event that started the room.
    fn start_failed(&mut self, now: Duration, id: ErrorId) {
        self.drop_instance();
        self.start_failures += 1;
        if let Some(event) = self.mailbox.pop() {
            self.fail_event(event, Refusal::Failed(id));
        }
        let mut refused = Duration::ZERO;
        if let Some(over) = self.start_failures.checked_sub(limits::START_FAILURES) {
            refused = 1_u32.checked_shl(over).map_or(limits::START_BACKOFF, |times| {
                (limits::START_BACKOFF_FIRST * times).min(limits::START_BACKOFF)
            });
            self.refused_until = now + refused;
            while let Some(event) = self.mailbox.pop() {
                self.fail_event(event, Refusal::Unavailable(refused));
            }
        }
        self.remembered_until = Some(now + (2 * refused).max(limits::START_BACKOFF_FIRST));
    }

    fn commit_failed(&mut self, failed: Failed) {
        let (void, author) = self.gate.failed();
        self.epoch = None;
        for effect in void {
            self.void(effect, failed.id);
        }
        if let Some((handler, connection)) = author
            && !self.draining
        {
            let (failure, id) = (failed.failure, failed.id);
            self.mailbox.push_front(Event::Error(HandlerError {
                handler,
                connection,
                failure,
                id,
            }));
        }
        match &mut self.turn {
            Some(turn) => {
                turn.base = self.gate.written();
                if !turn.cancelled {
                    turn.cancelled = true;
                    self.outputs.push_back(Output::Cancel(CancelReason::CommitFailed(failed.id)));
                }
            }
            None => self.reset(),
        }
    }

    /// Ends an effect whose commit failed: nobody may see it.
    fn void(&mut self, effect: Effect, id: ErrorId) {
        match effect {
            Effect::Accept(connection) => {
                self.roster.remove(&connection);
                self.outputs.push_back(Output::Refuse(connection, closed_by(Refusal::Failed(id))));
            }
            Effect::Respond(reply, response) => {
                if let Ok(response) = response {
                    self.discard(Discard::Response(response));
                }
                let refused = Effect::Respond(reply, Err(Refusal::Failed(id)));
                self.outputs.push_back(Output::Effect(refused));
            }
            effect => self.undo(effect),
        }
    }

    /// Ends an effect that was taken back before it left.
    fn undo(&mut self, effect: Effect) {
        match &effect {
            Effect::Close(connection, _)
                if self.roster.status(connection) == Some(Status::Closing) =>
            {
                self.roster.set_status(connection, Status::Open);
            }
            Effect::Spawn { id, .. } => {
                self.holders.end_task(*id);
            }
            _ => {}
        }
        self.discard(Discard::Effect(effect));
    }

    /// Ends an event that no handler will see.
    fn fail_event(&mut self, event: Event, refusal: Refusal) {
        match event {
            Event::Close { .. } if !self.draining => self.mailbox.keep(event),
            Event::Connect { connection, request, arrived } => {
                self.roster.remove(&connection);
                self.outputs.push_back(Output::Refuse(connection.clone(), closed_by(refusal)));
                self.discard(Discard::Event(Event::Connect { connection, request, arrived }));
            }
            Event::Message { .. } => {
                self.accountant.dropped_message();
                self.discard(Discard::Event(event));
            }
            Event::Request { request, chain, reply } => {
                if let Some(reply) = reply {
                    self.outputs.push_back(Output::Effect(Effect::Respond(reply, Err(refusal))));
                }
                self.discard(Discard::Event(Event::Request { request, chain, reply: None }));
            }
            event => self.discard(Discard::Event(event)),
        }
    }

    /// A failure takes the instance; the sockets stay.
    fn reset(&mut self) {
        if self.phase != Phase::Asleep {
            self.accountant.reset();
        }
        self.cancel_tasks();
        self.drop_instance();
    }

    fn sleep(&mut self, now: Duration) {
        self.accountant.slept();
        self.roster.shrink();
        self.drop_instance();
        self.accountant.settle(now, false, false);
    }

    fn drop_instance(&mut self) {
        if self.phase != Phase::Asleep {
            self.phase = Phase::Asleep;
            self.outputs.push_back(Output::DropInstance);
        }
    }

    fn cancel_tasks(&mut self) {
        let tasks = self.holders.cancel_tasks();
        if !tasks.is_empty() {
            self.outputs.push_back(Output::CancelTasks(tasks));
        }
    }

    /// Lets an effect leave, now or when the writes before it are durable.
    fn emit(&mut self, turn: Option<TurnId>, effect: Effect) {
        if let Some(effect) = self.gate.hold(turn, effect) {
            self.leave(effect);
        }
    }

    fn release(&mut self) {
        while let Some(effect) = self.gate.release() {
            self.leave(effect);
        }
    }

    fn leave(&mut self, effect: Effect) {
        self.unflushed |= matches!(effect, Effect::Frame { .. } | Effect::Close(..));
        self.outputs.push_back(Output::Effect(effect));
    }

    fn begin_commit(&mut self) {
        if let Some(batch) = self.gate.begin_commit() {
            self.outputs.push_back(Output::Commit(batch));
        }
    }

    fn discard(&mut self, discard: Discard) {
        self.outputs.push_back(Output::Discard(discard));
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("phase", &self.phase)
            .field("roster", &self.roster.len())
            .field("mailbox", &self.mailbox.len())
            .finish_non_exhaustive()
    }
}

/// What a client is told that cannot come in.
fn closed_by(refusal: Refusal) -> Close {
    match refusal {
        Refusal::Failed(id) => Close::fixed(CloseCode::INTERNAL, format!("error {id}")),
        Refusal::ShuttingDown => Close::fixed(CloseCode::RESTART, "the server restarts"),
        _ => Close::fixed(CloseCode::TRY_AGAIN, "try again later"),
    }
}
