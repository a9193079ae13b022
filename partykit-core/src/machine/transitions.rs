//! Every transition between sleeping, waking and awake, and the fate of every event and effect.
//!
//! What stands in quotes names a section of the guide's page of rules (`docs/src/rules.md`): that
//! promise is kept in this place.

use std::{mem, time::Duration};

use super::{
    Answer, CancelReason, Discard, Effect, Event, Failed, HandlerError, Job, Machine, Output,
    RoomPhase, StartReason, account::Condition, alarm::Errand, fact::Fact, turn::Turn,
};
use crate::{
    Close, Connection, ErrorId, Handler, Refusal,
    connection::record::Status,
    value::{close_reason::CloseReason, failure::Failure, limits},
};

/// This many turns may end before what they said has to leave, when events keep coming.
const TURNS_PER_FLUSH: u32 = 256;

/// The same in bytes of memory that it takes.
const BYTES_PER_FLUSH: usize = 1 << 20;

impl Machine {
    /// The server goes down: what runs may end within `grace`, nothing else begins.
    pub(crate) fn drain(&mut self, now: Duration, grace: Duration) {
        if self.draining {
            return;
        }
        self.settle(now);
        self.draining = true;
        let until = now.saturating_add(grace);
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.deadline > until) {
            let begun = turn.deadline.saturating_sub(turn.limit);
            (turn.deadline, turn.limit) = (until, until.saturating_sub(begun));
            turn.called_off = true;
        }
        // "Connecting": a shutdown runs no `on_close`, so those that were kept for a start go, too.
        self.mailbox.unkeep();
        while let Some(event) = self.mailbox.pop() {
            self.fail_event(event, Refusal::ShuttingDown);
        }
        self.cancel_tasks(now);
        // "Alarms": a shutdown uses up no retry, and the alarm is due at the next start.
        self.drain_alarm();
        self.advance(now);
    }

    /// Takes the next step that is due, if one is.
    pub(super) fn advance(&mut self, now: Duration) {
        self.close_condemned();
        // "One thing at a time": while a handler runs, nothing else begins.
        if self.turn.is_none() {
            match self.phase {
                RoomPhase::Asleep => self.wake(now),
                RoomPhase::Waking => {}
                RoomPhase::Awake => self.run_next(now),
            }
        }
        self.settle(now);
    }

    /// Books the time up to now.
    pub(super) fn settle(&mut self, now: Duration) {
        let (handler, task) = (self.turn.is_some(), self.holders.tasks() > 0);
        let condition = Condition {
            resident: self.phase != RoomPhase::Asleep,
            active: handler || task || self.gate.is_committing(),
            handler,
            commit: self.gate.has_pending() || self.gate.held() > 0,
            task,
            guard: self.holders.guards() > 0,
            body: self.holders.bodies() > 0,
            connections: !self.options.hibernate && self.roster.len() > 0,
        };
        self.accountant.settle(now, condition);
    }

    fn close_condemned(&mut self) {
        if self.condemned.is_empty() {
            return;
        }
        // What a client said is handled before its connection is closed for it.
        let is_heard = |key: u64| {
            let runs = self.turn.as_ref().is_some_and(|turn| turn.is_message_of(key));
            !runs && !self.mailbox.has_message_of(key)
        };
        let heard: Vec<_> =
            self.condemned.extract_if(.., |(peer, _)| is_heard(peer.key())).collect();
        for (peer, close) in heard {
            if self.roster.set_status(peer.key(), Status::Closing) {
                self.emit(None, Effect::HangUp(peer, close.into()));
            }
        }
    }

    fn wake(&mut self, now: Duration) {
        let Some(cause) = self.mailbox.wake_cause() else { return };
        let (deadline, limit) = match self.mailbox.front() {
            // "Connecting": `on_start` and `on_connect` have one limit together.
            Some(Event::Connect { arrived, .. }) => {
                (arrived.saturating_add(self.options.connect_timeout), self.options.connect_timeout)
            }
            _ => (now.saturating_add(self.options.handler_timeout), self.options.handler_timeout),
        };
        self.accountant.woke(now, cause);
        self.holders.awake(now);
        self.outputs.push_back(Output::Fact(Fact::Woke(cause)));
        self.phase = RoomPhase::Waking;
        self.begin_turn(Handler::OnStart, None, deadline, limit);
        // A new claim would fence off the commit that is in flight.
        let commits = self.gate.has_pending();
        if self.epoch.is_some() && (commits || self.roster.count() > 0) {
            self.begin_start(self.is_blank());
        } else {
            self.outputs.push_back(Output::Claim);
        }
    }

    pub(super) fn begin_start(&mut self, empty: bool) {
        // "Sleep is invisible": the reason is computed from what is there, and stored nowhere.
        self.start_reason = match (self.roster.count(), empty) {
            (0, true) => StartReason::First,
            (0, false) => StartReason::Restart,
            _ => StartReason::Wake,
        };
        self.turn.iter_mut().for_each(|turn| turn.begun = true);
        self.outputs.push_back(Output::Run(self.last_turn, Job::Start));
    }

    fn run_next(&mut self, now: Duration) {
        // A room that says more than its store takes waits for the store.
        if self.gate.held_bytes() > self.options.held_bytes {
            return;
        }
        // "When there is too much": the messages of a client that does not read wait for it.
        let Some(event) = self.mailbox.pop_but_of(&self.clogged) else {
            let idle = now.saturating_sub(self.idle_since);
            if !self.is_kept_awake() && (self.draining || idle >= self.idle_time()) {
                self.sleep(now);
            }
            return;
        };
        self.turns_unflushed += u32::from(self.unflushed);
        if self.turns_unflushed >= TURNS_PER_FLUSH || self.bytes_unflushed >= BYTES_PER_FLUSH {
            self.flushed();
            self.outputs.push_back(Output::Flush);
        }
        self.run(now, event);
    }

    fn run(&mut self, now: Duration, mut event: Event) {
        let (limit, connection) = (self.options.handler_timeout, event.connection().cloned());
        let (deadline, limit) = match &event {
            // The time that it waited in the mailbox counts: the client waits as long.
            Event::Connect { arrived, .. } => {
                let limit = self.options.connect_timeout;
                (arrived.saturating_add(limit), limit)
            }
            _ => (now.saturating_add(limit), limit),
        };
        let turn = self.begin_turn(event.handler(), connection, deadline, limit);
        (turn.reply, turn.order) = (event.take_reply(), event.order());
        if let Event::Request { chain, .. } = &mut event {
            turn.chain = mem::take(chain);
        }
        self.outputs.push_back(Output::Run(self.last_turn, Job::Handle(event)));
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
    pub(super) fn finish(&mut self, now: Duration, mut turn: Turn, answer: Answer) {
        // "Alarms": the row goes with the handler's own commit, and not before.
        self.silence(&mut turn);
        // "What anyone was told is durable": one handler, one batch.
        if !turn.overlay.is_empty() || turn.overlay.has_states() {
            let (overlay, states) = turn.overlay.take();
            self.keep(overlay, states, turn.author());
        }
        if self.draining {
            // Nothing rings any more.
            self.restore_alarm(turn.author());
        }
        let erases = turn.erases();
        if erases {
            self.forget_past(now);
        }
        if let Answer::NotNow = answer {
            // The room need not start any more; who asked is told when the writes are durable.
            if let Some(reply) = self.take_errand(&turn).and_then(|mut event| event.take_reply()) {
                self.emit(None, Effect::Respond(reply, Ok(Answer::Done)));
            }
            return self.drop_instance(now, |awake| Fact::Slept { awake });
        }
        if turn.handler == Handler::OnStart {
            self.started();
        }
        if turn.handler == Handler::OnConnect
            && let Some(connection) = turn.connection.clone()
        {
            // "Connecting": the client's `open` comes after the commit, and then what `on_connect` sent.
            self.emit(None, Effect::Accept(connection.clone()));
            for (.., effect) in turn.deferred {
                self.emit(None, effect);
            }
            // It ended while its `on_connect` ran: that succeeded, so one `on_close` is owed.
            if let Some(close) = turn.gone {
                self.roster.remove(connection.key());
                if !self.draining {
                    self.mailbox.push(Event::Close { connection, close });
                }
            }
        }
        match (turn.reply, answer) {
            (Some(reply), answer) => self.emit(None, Effect::Respond(reply, Ok(answer))),
            // "Requests, and calls between rooms": the answer to a `tell` is dropped.
            (None, Answer::Response(response)) => {
                self.discard(Discard::Answer(Answer::Response(response)));
            }
            (None, Answer::Done | Answer::NotNow) => {}
        }
        // "Tasks": they start when the handler has committed, so they pass the gate as frames do.
        for (_, id, task) in turn.spawns {
            self.emit(None, Effect::Spawn { id, task });
        }
        if erases {
            self.drop_instance(now, |awake| Fact::Slept { awake });
        }
    }

    /// "Starting": one success, and failures count from zero; the closes that waited are next.
    pub(super) fn started(&mut self) {
        self.phase = RoomPhase::Awake;
        (self.start_failures, self.remembered_until) = (0, None);
        self.refused_until = Duration::ZERO;
        if self.mailbox.has_kept() {
            self.mailbox.unkeep();
        }
    }

    /// A handler failed: nothing of what it did holds, but what it said before its first write.
    pub(super) fn fail(&mut self, now: Duration, mut turn: Turn, failed: Failed) {
        let resets = match &failed.failure {
            // A client's fault takes no instance, but the failed commit of an earlier handler does.
            Failure::Rejected(_) => turn.void,
            // "When a handler fails": an `Err` from a handler that wrote nothing keeps the instance.
            Failure::Error(_) => turn.has_written(),
            // A panic or the time limit may have left the instance half-way.
            _ => true,
        };
        self.take_back(now, &mut turn);
        self.retry_alarm(now, &mut turn);
        let refusal = Refusal::Failed(failed.id);
        if turn.handler == Handler::OnConnect
            && let Some(connection) = &turn.connection
        {
            // "Connecting": opened, closed at once, never listed, and no `on_close`.
            self.roster.remove(connection.key());
            let close = match &failed.failure {
                Failure::Rejected(reject) => reject.close(),
                _ => closed_by(refusal),
            };
            self.outputs.push_back(Output::Refuse(connection.clone(), close));
        }
        if let Some(reply) = turn.reply.take() {
            let answer = match &failed.failure {
                // "What a client did wrong": the client is told what.
                Failure::Rejected(reject) => Ok(reject.response().into()),
                // "When a handler fails": clients never see the error, but its id.
                _ => Err(refusal),
            };
            self.emit(None, Effect::Respond(reply, answer));
        }
        self.release();
        if turn.errand.is_some() {
            // The store has failed, not the room's start: who rings the alarm asks again.
            if let Some(event) = self.take_errand(&turn) {
                self.fail_event(event, refusal);
            }
            self.drop_instance(now, |_| Fact::StartFailed);
            return self.discard(Discard::Failed(failed));
        }
        if turn.handler == Handler::OnStart {
            match failed.failure {
                // An earlier commit failed, not `on_start`. Start again for the same event; the
                // earlier handler's `on_error` is queued in front of it.
                Failure::Commit(_) if !turn.synced => self.reset(now),
                // "Starting": `on_start` has no `on_error`; the event that needed it fails with it.
                _ => self.start_failed(now, failed.id),
            }
            self.discard(Discard::Failed(failed));
            return;
        }
        if resets {
            self.reset(now);
        }
        let is_rejected = matches!(failed.failure, Failure::Rejected(_));
        if is_rejected {
            self.accountant.rejected();
        }
        // "What a client did wrong": no `on_error` for it. An `on_error` that fails is not told either.
        if is_rejected || turn.handler == Handler::OnError || self.draining {
            self.discard(Discard::Failed(failed));
            return;
        }
        // "When a handler fails": `on_error` is the next event, on the instance that exists by then.
        let Failed { failure, id } = failed;
        let (handler, connection) = turn.author();
        self.mailbox.push_front(Event::Error(HandlerError { handler, connection, failure, id }));
    }

    /// The event that a turn was about before the room started.
    fn take_errand(&mut self, turn: &Turn) -> Option<Event> {
        let errand = turn.errand?;
        self.mailbox.remove(|event| match event {
            Event::Alarm { .. } => errand == Errand::Alarm,
            Event::Order { order, .. } => errand == Errand::Order(*order),
            _ => false,
        })
    }

    /// `on_start` failed, and with it the event that started the room.
    fn start_failed(&mut self, now: Duration, id: ErrorId) {
        self.drop_instance(now, |_| Fact::StartFailed);
        self.start_failures += 1;
        if let Some(event) = self.mailbox.pop() {
            self.fail_event(event, Refusal::Failed(id));
        }
        let mut refused = Duration::ZERO;
        // "Starting": after three failures in a row events are refused, and those that wait are, too.
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

    pub(super) fn commit_failed(&mut self, now: Duration, failed: Failed) {
        // "What anyone was told is durable": all that waited for this commit is never said.
        let (void, restored, author) = self.gate.failed(&mut self.roster);
        self.attempts.commit_failed();
        self.outputs.extend(restored.into_iter().map(Output::Attach));
        // The store may have it or not: only a new claim tells what is stored.
        self.epoch = None;
        for effect in void {
            self.void(now, effect, failed.id);
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
            // The running handler may have read what is void: it fails, even if it is about to succeed.
            Some(turn) => {
                (turn.base, turn.void) = (self.gate.written(), true);
                if !turn.cancelled {
                    turn.cancelled = true;
                    self.outputs.push_back(Output::Cancel(CancelReason::CommitFailed(failed.id)));
                }
            }
            None => self.reset(now),
        }
    }

    /// Ends an effect whose commit failed: no client may see it.
    fn void(&mut self, now: Duration, effect: Effect, id: ErrorId) {
        match effect {
            // "Connecting": an `on_connect` whose commit failed has failed, so no `on_close` follows.
            Effect::Accept(connection) => {
                self.roster.remove(connection.key());
                let is_its_end = |event: &Event| matches!(event, Event::Close { connection: c, .. } if *c == connection);
                if let Some(event) = self.mailbox.remove(is_its_end) {
                    self.discard(Discard::Event(event));
                }
                self.outputs.push_back(Output::Refuse(connection, closed_by(Refusal::Failed(id))));
            }
            // Every request is answered, once.
            Effect::Respond(reply, answer) => {
                if let Ok(answer) = answer {
                    self.discard(Discard::Answer(answer));
                }
                let refused = Effect::Respond(reply, Err(Refusal::Failed(id)));
                self.outputs.push_back(Output::Effect(refused));
            }
            // The runtime closes it, and not the handler whose commit failed.
            effect @ Effect::HangUp(..) => self.leave(effect),
            effect => self.undo(now, effect),
        }
    }

    /// Ends an event that no handler will see.
    pub(super) fn fail_event(&mut self, event: Event, refusal: Refusal) {
        match event {
            // "Alarms": the row is still there, and the runtime asks again.
            Event::Alarm { reply } | Event::Order { reply, .. } => {
                let refused = reply.map(|reply| Effect::Respond(reply, Err(refusal)));
                self.outputs.extend(refused.map(Output::Effect));
            }
            // "Starting": a close waits for the next start.
            Event::Close { .. } if !self.draining => self.mailbox.keep(event),
            Event::Connect { connection, request, arrived, size } => {
                self.roster.remove(connection.key());
                self.outputs.push_back(Output::Refuse(connection.clone(), closed_by(refusal)));
                self.discard(Discard::Event(Event::Connect { connection, request, arrived, size }));
            }
            // "Starting": a message is dropped and counted, and never tried again.
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
    fn reset(&mut self, now: Duration) {
        if self.phase != RoomPhase::Asleep {
            self.accountant.reset();
        }
        // "Tasks": a failure that takes the instance cancels them.
        self.cancel_tasks(now);
        self.drop_instance(now, |awake| Fact::Reset { awake });
    }

    pub(super) fn sleep(&mut self, now: Duration) {
        self.settle(now);
        // "Sleep is invisible": only the instance goes. Connections, their states and the claim stay.
        self.accountant.slept();
        self.mailbox.shrink();
        self.drop_instance(now, |awake| Fact::Slept { awake });
        self.settle(now);
    }

    /// Drops the instance, if there is one; `fact` says why it does, and how long it was there.
    pub(super) fn drop_instance(&mut self, now: Duration, fact: impl FnOnce(Duration) -> Fact) {
        if self.phase != RoomPhase::Asleep {
            self.phase = RoomPhase::Asleep;
            let awake = self.accountant.ended(self.holders.longest(now));
            self.outputs.push_back(Output::DropInstance(fact(awake)));
        }
    }

    pub(super) fn cancel_tasks(&mut self, now: Duration) {
        let tasks = self.holders.cancel_tasks(now);
        if !tasks.is_empty() {
            self.outputs.push_back(Output::CancelTasks(tasks));
        }
    }

    pub(super) fn begin_commit(&mut self) {
        if let Some(batch) = self.gate.begin_commit() {
            self.outputs.push_back(Output::Commit(batch, self.epoch));
        }
    }

    pub(super) fn discard(&mut self, discard: Discard) {
        self.outputs.push_back(Output::Discard(discard));
    }
}

/// What a client is told that cannot come in.
fn closed_by(refusal: Refusal) -> Close {
    match refusal {
        Refusal::Failed(id) => CloseReason::failed(id),
        Refusal::ShuttingDown => CloseReason::Restart.close(),
        _ => CloseReason::TryAgain.close(),
    }
}
