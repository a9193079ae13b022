//! The sans-IO room: what happens goes in with the time at which it happens, what is to be done comes
//! out. No clock, no socket, no future is touched here, so the same calls always give the same outputs.
//!
//! This file has what goes in, and what can be asked. Every transition between sleeping, waking and
//! awake, and the fate of every event, stands in [`transitions`]; what a handler does while it runs, in
//! [`turn_mut`]; the way of what is said, in [`speech`].

mod account;
mod accountant;
mod alarm;
mod answer;
mod attempts;
mod awake;
mod dormant;
mod effect;
mod event;
mod fact;
mod gate;
mod handler_error;
mod ids;
mod intake;
mod lane;
mod ledger;
mod mailbox;
mod mailboxes;
mod operator;
mod output;
mod overlay;
#[cfg(test)]
mod properties;
mod records;
mod roster;
mod shares;
mod speech;
mod start_reason;
mod states;
mod stats;
mod tag_index;
#[cfg(test)]
mod tests;
mod transitions;
mod turn;
mod turn_mut;
mod wake_cause;

use std::{fmt, sync::Arc, time::Duration};

pub use account::{Account, LongestAwake, TimeAwake};
pub use awake::AwakeReason;
pub use fact::Fact;
pub use handler_error::HandlerError;
pub use mailboxes::Mailboxes;
pub use start_reason::StartReason;
pub use stats::{RoomPhase, RoomStats};
pub use wake_cause::WakeCause;

pub(crate) use alarm::{Beginning, Errand};
pub(crate) use answer::{Answer, Reply};
pub(crate) use dormant::Dormant;
pub(crate) use effect::{Effect, Targets};
pub(crate) use event::Event;
pub(crate) use ids::{Scope, TransactionId, TurnId};
pub(crate) use intake::Intake;
pub(crate) use output::{CancelReason, Discard, Failed, Job, Output};
pub(crate) use records::Records;
pub(crate) use roster::Roster;
pub(crate) use turn_mut::TurnMut;

use self::{
    accountant::Accountant, attempts::Attempts, awake::Holders, gate::Gate, lane::Lane,
    mailbox::Mailbox, turn::Turn,
};
use crate::{
    Claim, Close, Connection, Epoch, Handler, Message, Options, Refusal,
    connection::{peer::Peer, record::Status},
};

/// As many places for outputs are kept when there are none.
const KEPT: usize = 1024;

/// One room.
pub(crate) struct Machine {
    options: Arc<Options>,
    phase: RoomPhase,
    roster: Roster,
    mailbox: Mailbox,
    /// Connections to be closed when what they said is handled.
    condemned: Vec<(Peer, Close)>,
    /// Connections whose clients have to read first: their messages wait.
    clogged: Vec<u64>,
    gate: Gate,
    holders: Holders,
    accountant: Accountant,
    turn: Option<Turn>,
    last_turn: TurnId,
    /// The attempts to ring the alarm, until the store says how they ended.
    attempts: Attempts,
    epoch: Option<Epoch>,
    start_reason: StartReason,
    /// Failed starts in a row.
    start_failures: u32,
    refused_until: Duration,
    /// Until when failed starts are remembered. Without it a room without holders would count them from
    /// zero at each event.
    remembered_until: Option<Duration>,
    idle_since: Duration,
    /// The number of the last write before the claim, if nothing was stored then.
    blank_at: Option<u64>,
    /// A client was connected since the claim.
    visited: bool,
    /// The instance has no fields. The driver says so, each time it begins.
    stateless: bool,
    /// The runtime has very many rooms: those that hold nothing are to go. The driver says so at each turn.
    crowded: bool,
    draining: bool,
    outputs: Lane<[Output; 2]>,
    /// Something was queued at a socket since the last flush.
    unflushed: bool,
    turns_unflushed: u32,
    /// The memory of what was said since the last flush.
    bytes_unflushed: usize,
}

impl Machine {
    /// Something happens. What the room cannot take comes back, with the reason.
    pub(crate) fn push(&mut self, now: Duration, event: Event) -> Result<(), (Refusal, Event)> {
        match &event {
            Event::Task { id, result } if result.last => {
                let id = *id;
                self.task_ended(now, id, event);
                return Ok(());
            }
            // A cancelled task has nothing to say any more.
            Event::Task { id, .. } if !self.holders.has_task(*id) => {
                self.discard(Discard::Event(event));
                return Ok(());
            }
            _ => {}
        }
        if let Err(refusal) = self.admits(now, &event) {
            return Err((refusal, event));
        }
        match &event {
            Event::Connect { connection, .. } => {
                self.visited = true;
                self.roster.insert(connection.clone());
            }
            Event::Message { sender, .. }
                if self.roster.status(sender.key()) != Some(Status::Open) =>
            {
                self.discard(Discard::Event(event));
                return Ok(());
            }
            _ => {}
        }
        let only_waits = self.turn.is_some() && matches!(event, Event::Message { .. });
        self.mailbox.push(event);
        // A message that waits for a handler that runs changes nothing else.
        if !only_waits {
            self.advance(now);
        }
        Ok(())
    }

    /// A client has sent a message. It comes back if the room cannot take it now.
    pub(crate) fn message(
        &mut self,
        now: Duration,
        key: u64,
        message: Message,
    ) -> Result<(), (Refusal, Message)> {
        // What a connection says that has ended, or was never here, is dropped.
        let Some(sender) = self.roster.get(key) else { return Ok(()) };
        match self.push(now, Event::Message { sender, message }) {
            Err((refusal, Event::Message { message, .. })) => Err((refusal, message)),
            _ => Ok(()),
        }
    }

    /// A socket has ended. Unknown ones are ignored, so it may be said more than once.
    pub(crate) fn closed(&mut self, now: Duration, key: u64, close: Close) {
        let Some(status) = self.roster.status(key) else { return };
        // "Connecting": whether an `on_close` is owed is known when its `on_connect` has ended.
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.is_connecting(key)) {
            turn.gone.get_or_insert(close);
            self.roster.set_status(key, Status::Closing);
            return;
        }
        let Some((connection, _)) = self.roster.remove(key) else { return };
        // What it said comes before its end.
        self.clogged.retain(|clogged| *clogged != key);
        if status == Status::Connecting {
            let is_it = |event: &Event| matches!(event, Event::Connect { connection: c, .. } if *c == connection);
            if let Some(event) = self.mailbox.remove(is_it) {
                self.discard(Discard::Event(event));
            }
        } else if !self.draining {
            // "Starting": a room that cannot start is not started by those who leave.
            let event = Event::Close { connection, close };
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
    pub(crate) fn hang_up(&mut self, now: Duration, key: u64, close: Close) {
        let Some(peer) = self.roster.peer(key) else { return };
        self.condemned.push((peer, close));
        self.advance(now);
    }

    /// The handler that is to run is not, and all messages of its sender wait with this one: the client
    /// has to read first.
    ///
    /// # Errors
    ///
    /// When it has to run nevertheless.
    pub(crate) fn postpone(&mut self, now: Duration, job: Job) -> Result<(), Job> {
        match job {
            Job::Handle(event @ Event::Message { .. }) if self.may_postpone() => {
                self.turn = None;
                self.clogged.extend(event.connection().map(Connection::key));
                self.mailbox.push_front(event);
                self.advance(now);
                Ok(())
            }
            job => Err(job),
        }
    }

    /// The client of a connection has read enough: its messages are handled again.
    pub(crate) fn unclog(&mut self, now: Duration, key: u64) {
        self.clogged.retain(|clogged| *clogged != key);
        self.advance(now);
    }

    /// A turn that is to fail because of an earlier one has to be seen to fail.
    fn may_postpone(&self) -> bool {
        !self.draining && self.turn.as_ref().is_some_and(|turn| !turn.cancelled && !turn.void)
    }

    /// The claim has ended; with it, `on_start` begins.
    pub(crate) fn claimed(&mut self, now: Duration, claim: Result<Claim, Failed>) {
        self.settle(now);
        match claim {
            Ok(claim) if self.draining => {
                self.epoch = Some(claim.epoch);
                self.turn = None;
                self.drop_instance(now, |_| Fact::StartFailed);
                self.advance(now);
            }
            Ok(claim) => {
                self.epoch = Some(claim.epoch);
                let empty = claim.empty && !self.gate.has_pending();
                self.blank_at = empty.then(|| self.gate.written());
                self.visited = self.roster.len() > 0;
                self.begin_start(empty);
            }
            Err(failed) => {
                // It may have taken the room over all the same.
                self.epoch = None;
                self.turn_ended(now, Err(failed));
            }
        }
    }

    /// The running handler has ended.
    pub(crate) fn turn_ended(&mut self, now: Duration, result: Result<Answer, Failed>) {
        self.accountant.pass(now);
        // What is still open was not awaited, so its end is unknown.
        if let Some(inside) = self.turn.as_ref().and_then(|turn| turn.overlay.inside(0)) {
            self.end_transaction(now, inside, false);
        }
        let Some(turn) = &self.turn else { return };
        self.idle_since = now;
        let (handler, is_plain) = (turn.handler, turn.only_spoke() && self.attempts.is_empty());
        match result {
            // Nothing of it is left to be done. It is large, so it is not moved.
            Ok(Answer::Done) if is_plain => {
                self.turn = None;
                if handler == Handler::OnStart {
                    self.started();
                }
            }
            result => self.take_leave(now, result),
        }
        self.begin_commit();
        self.advance(now);
    }

    fn take_leave(&mut self, now: Duration, result: Result<Answer, Failed>) {
        let Some(turn) = self.turn.take() else { return };
        match result {
            Ok(answer) => self.finish(now, turn, answer),
            Err(failed) => self.fail(now, turn, failed),
        }
    }

    /// The commit in flight has ended.
    pub(crate) fn commit_ended(&mut self, now: Duration, result: Result<(), Failed>) {
        self.settle(now);
        self.idle_since = now;
        match result {
            Ok(()) => {
                self.gate.committed();
                self.attempts.committed(&self.gate);
                self.begin_commit();
                self.release();
            }
            Err(failed) => self.commit_failed(now, failed),
        }
        self.advance(now);
    }

    /// A task has ended, with its last event. That always enters the mailbox.
    fn task_ended(&mut self, now: Duration, id: u64, event: Event) {
        self.idle_since = now;
        if self.holders.end_task(now, id) && !self.draining {
            self.mailbox.push(event);
        } else {
            self.discard(Discard::Event(event));
        }
        self.advance(now);
    }

    pub(crate) fn guard_dropped(&mut self, now: Duration, id: u64) {
        if self.holders.end_guard(now, id) {
            self.idle_since = now;
            self.advance(now);
        }
    }

    pub(crate) fn body_ended(&mut self, now: Duration) {
        self.holders.end_body();
        self.idle_since = now;
        self.advance(now);
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Duration) {
        let is_due = |turn: &&mut Turn| turn.begun && !turn.cancelled && now >= turn.deadline;
        if let Some(turn) = self.turn.as_mut().filter(is_due) {
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
        if self.phase == RoomPhase::Awake {
            self.sleep(now);
        }
        Ok(())
    }

    /// The next thing to do.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            self.outputs.shrink(KEPT);
            if self.unflushed {
                self.flushed();
                return Some(Output::Flush);
            }
        }
        output
    }

    /// When [`Machine::tick`] wants to be called.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match &self.turn {
            Some(turn) if turn.cancelled || !turn.begun => None,
            Some(turn) => Some(turn.deadline),
            None if self.phase == RoomPhase::Awake && !self.is_kept_awake() => {
                Some(self.idle_since.saturating_add(self.idle_time()))
            }
            None if self.phase == RoomPhase::Asleep => self.remembered_until,
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
        if self.gate.has_pending() || self.gate.held() > 0 {
            reasons.push(AwakeReason::Commit);
        }
        if !self.draining {
            reasons.extend(self.holders.reasons());
            if !self.options.hibernate && self.phase == RoomPhase::Awake && self.roster.len() > 0 {
                reasons.push(AwakeReason::Connections(self.roster.len()));
            }
        }
        reasons
    }

    /// Whether there is one of the [reasons](Machine::reasons).
    pub(super) fn is_kept_awake(&self) -> bool {
        let by_clients = !self.options.hibernate && self.phase == RoomPhase::Awake;
        self.turn.is_some()
            || !self.mailbox.is_empty()
            || self.gate.has_pending()
            || self.gate.held() > 0
            || !self.draining && (!self.holders.is_empty() || by_clients && self.roster.len() > 0)
    }

    /// Nothing is left of the room but what is in storage.
    pub(crate) fn is_vacant(&self) -> bool {
        self.is_at_rest()
            && self.roster.len() == 0
            && !self.mailbox.has_kept()
            && self.holders.is_empty()
            && (self.attempts.is_empty() || self.draining)
    }

    /// Whether something was said that has not left.
    pub(crate) fn is_unflushed(&self) -> bool {
        self.unflushed
    }

    /// Whether something is to be done that has not begun.
    pub(crate) fn has_outputs(&self) -> bool {
        self.unflushed || !self.outputs.is_empty()
    }

    /// Asleep, and nothing is to be done.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.phase == RoomPhase::Asleep
            && self.turn.is_none()
            && self.mailbox.is_empty()
            && !self.gate.has_pending()
            && !self.has_outputs()
            && (self.remembered_until.is_none() || self.draining)
    }

    /// The handler that runs.
    pub(crate) fn running(&self) -> Option<Handler> {
        self.turn.as_ref().map(|turn| turn.handler)
    }

    /// Gives the claim back: the next start claims again.
    pub(crate) fn release_claim(&mut self) -> Option<Epoch> {
        self.epoch.take()
    }

    pub(crate) fn roster(&mut self) -> &mut Roster {
        &mut self.roster
    }

    /// The server has no fields, so its instance is no loss.
    pub(crate) fn set_stateless(&mut self) {
        self.stateless = true;
    }

    /// Whether there are many rooms, see [`Host::is_crowded`](crate::runtime::Host::is_crowded).
    pub(crate) fn set_crowded(&mut self, crowded: bool) {
        self.crowded = crowded;
    }

    /// The runtime closed a connection whose client read too slowly.
    pub(crate) fn slow_client(&mut self) {
        self.accountant.slow_client();
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
