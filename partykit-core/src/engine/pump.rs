use std::{
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::future::BoxFuture;
use futures_util::{FutureExt, future::abortable};
use tracing::error;

use super::{
    cell::{Driving, Outputs},
    delivery::{Delivery, flush_later},
};
use crate::{
    BackendError, Claim, Timestamp, WakeUp,
    connection::{outgoing::Frame, peer::Peer},
    machine::{CancelReason, Effect, Event, Fact, Failed, Job, Machine, Output, Targets, TurnId},
    storage::resolve,
    value::{
        failure::{Failure, panic_message},
        limits,
    },
};

/// Acts on the machine's outputs, and waits for claims, commits and timers.
pub(crate) struct Pump<'a> {
    cell: &'a Driving,
    claim: Option<BoxFuture<'a, Result<Claim, BackendError>>>,
    /// Ends with when the room is to be woken, if the commit says that.
    commit: Option<BoxFuture<'static, Committed>>,
    /// When the commit began.
    committing: Duration,
    timer: Option<(Duration, BoxFuture<'static, ()>)>,
    outputs: Outputs,
    /// Frames since the last flush that are not queued at a socket yet.
    frames: Vec<(Targets, Frame)>,
    /// The connections where frames were queued since the last flush.
    unflushed: Vec<Targets>,
    /// What goes to the sockets now, before anything else is done.
    delivery: Option<Delivery>,
    /// Others run before the delivery goes on.
    pause: Option<BoxFuture<'static, ()>>,
    /// Connections whose messages wait for their clients to read.
    pub(crate) clogged: Vec<Peer>,
    /// Whether the driver has rested since the last turn.
    pub(crate) rested: bool,
    /// Whether time may have passed since the last turn: there was something to deliver or to wait for.
    pub(crate) took_time: bool,
}

/// When the room is to be woken, if the commit says that; and how the commit ended.
type Committed = (Option<WakeUp>, Result<(), BackendError>);

/// An output that the driver has to act on by itself.
pub(crate) enum Step {
    Cancel(CancelReason),
    DropInstance(Fact),
    Rest,
    Run(TurnId, Job),
}

impl<'a> Pump<'a> {
    pub(crate) fn new(cell: &'a Driving) -> Self {
        Self {
            cell,
            claim: None,
            commit: None,
            committing: Duration::ZERO,
            timer: None,
            outputs: Outputs::new(),
            frames: Vec::new(),
            unflushed: Vec::new(),
            delivery: None,
            pause: None,
            clogged: Vec::new(),
            rested: true,
            took_time: true,
        }
    }

    /// Polls for a step. Also returns whether its job has to wait until the client of its sender reads what waits
    /// for it.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<(Step, bool)> {
        let step = ready!(self.poll(cx));
        let waits = match &step {
            Step::Run(_, Job::Handle(Event::Message { sender, .. })) => {
                sender.socket().poll_drained(limits::CLOGGED, cx).is_pending()
            }
            _ => false,
        };
        Poll::Ready((step, waits))
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        self.unclog(cx);
        loop {
            ready!(self.poll_delivery(cx));
            if let Some(step) = self.apply_all() {
                return Poll::Ready(step);
            }
            if self.delivery.is_some() {
                continue;
            }
            let deadline = self.cell.take_outputs(cx.waker(), &mut self.outputs);
            if !self.outputs.is_empty() || self.poll_storage(cx) || self.poll_timer(cx, deadline) {
                continue;
            }
            if self.claim.is_none() && self.commit.is_none() && self.cell.retire() {
                return Poll::Ready(Step::Rest);
            }
            (self.rested, self.took_time) = (true, true);
            return Poll::Pending;
        }
    }

    /// Tells the machine what the driver has done, and takes what is to be done next.
    pub(crate) fn report<R>(
        &mut self,
        now: Duration,
        report: impl FnOnce(&mut Machine, Duration) -> R,
    ) -> R {
        let has_none = self.delivery.is_none() && self.outputs.is_empty();
        self.cell.report(now, has_none.then_some(&mut self.outputs), report)
    }

    /// Does what is to be done, up to what the driver has to do, or to what has to be delivered first.
    fn apply_all(&mut self) -> Option<Step> {
        while self.delivery.is_none() {
            let next = self.outputs.last()?;
            if !self.frames.is_empty() && is_behind_frames(next) {
                self.delivery = Some(Delivery::queue(mem::take(&mut self.frames)));
            } else if let Some(step) = self.outputs.pop().and_then(|next| self.apply(next)) {
                return Some(step);
            }
        }
        None
    }

    /// Ready when nothing has to be delivered. Others run in between when it takes long: a room may have
    /// said much to many.
    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut begun = None;
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                (self.pause, begun) = (None, None);
            }
            let Some(delivery) = &mut self.delivery else { return Poll::Ready(()) };
            self.took_time = true;
            if !delivery.advance(&mut self.unflushed) {
                self.frames = self.delivery.take().map_or_else(Vec::new, Delivery::end);
                continue;
            }
            let now = self.cell.host().elapsed();
            if now.saturating_sub(*begun.get_or_insert(now)) >= limits::SLICE {
                self.pause = Some(self.cell.host().yield_now());
            }
        }
    }

    fn apply(&mut self, output: Output) -> Option<Step> {
        match output {
            Output::Attach(connection) => connection.socket().attach(&connection),
            Output::Cancel(reason) => return Some(Step::Cancel(reason)),
            Output::CancelTasks(tasks) => tasks.iter().for_each(|id| self.cell.abort_task(*id)),
            Output::Claim => {
                let cell = self.cell;
                let claim = || cell.host().backend().claim(cell.address());
                let claim = catch_unwind(AssertUnwindSafe(claim));
                self.claim = Some(claim.unwrap_or_else(|payload| {
                    let error = BackendError::Failed(panic_message(payload).into());
                    Box::pin(async { Err(error) })
                }));
            }
            Output::Commit(batch, epoch) => {
                let cell = Arc::clone(self.cell);
                self.committing = cell.host().elapsed();
                self.commit = Some(Box::pin(async move {
                    let Some(epoch) = epoch else {
                        return (None, Err(BackendError::Failed("not claimed".into())));
                    };
                    let (mut batch, backend) = (Arc::unwrap_or_clone(batch), cell.host().backend());
                    if let Err(error) = resolve(&mut batch, &**backend, cell.address()).await {
                        return (None, Err(error));
                    }
                    let wake_up = batch.wake_up;
                    (wake_up, backend.commit(cell.address(), epoch, batch).await)
                }));
            }
            Output::Discard(discard) => {
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(discard))) {
                    let error = panic_message(payload);
                    error!(error = error.as_str(), "a value panicked while it was dropped");
                }
            }
            Output::DropInstance(why) => {
                self.cell.observe(why);
                return Some(Step::DropInstance(why));
            }
            Output::Effect(effect) => self.leave(effect),
            Output::Fact(fact) => self.note(fact),
            Output::Flush => {
                let frames = mem::take(&mut self.frames);
                self.delivery = Some(Delivery::flush(frames, self.unflushed.is_empty()));
            }
            Output::GivenUp(plan, next) => self.given_up(plan.name(), next),
            Output::Probe(peer) => peer.socket().probe(),
            Output::Refuse(connection, close) => connection.socket().refuse(close),
            Output::Run(turn, job) => return Some(Step::Run(turn, job)),
        }
        None
    }

    fn note(&self, fact: Fact) {
        self.cell.observe(fact);
        if fact == Fact::AlarmGivenUp {
            let (party, room) = (self.cell.address().party(), self.cell.address().room().as_str());
            error!(
                party,
                room, "on_alarm of this room failed too often: its alarm is given up and deleted"
            );
        }
    }

    fn given_up(&self, schedule: &str, next: Option<Timestamp>) {
        self.cell.observe(Fact::ScheduleGivenUp);
        let (party, room) = (self.cell.address().party(), self.cell.address().room().as_str());
        match next {
            None => error!(
                party,
                room,
                schedule,
                "on_schedule failed too often for this schedule: it is given up and deleted"
            ),
            Some(next) => error!(
                party,
                room,
                schedule,
                next = next.as_millis(),
                "on_schedule failed too often for this schedule: this run is given up, and the schedule goes on"
            ),
        }
    }

    fn leave(&mut self, effect: Effect) {
        match effect {
            Effect::Accept(connection) => {
                connection.socket().accept();
                connection.socket().attach(&connection);
            }
            Effect::Answer(peer, message) => {
                self.frames.push((Targets::One(peer), Frame::One(message)));
            }
            Effect::Close(peer, close) | Effect::HangUp(peer, close) => {
                peer.socket().close(*close);
                flush_later(&mut self.unflushed, Targets::One(peer));
            }
            Effect::Frame { to, frame } => {
                if let Targets::Many { all, except, .. } = &to {
                    let receivers = if except.is_empty() { all.len() } else { to.iter().count() };
                    self.cell.observe(Fact::Broadcast { receivers });
                }
                self.frames.push((to, Frame::Many(frame)));
            }
            Effect::Respond(reply, response) => drop(reply.send(response)),
            Effect::Spawn { id, task } => {
                let (task, handle) = abortable(task);
                self.cell.add_task(id, handle);
                self.cell.host().spawn(Box::pin(task.map(drop)));
            }
            Effect::Tell { to, request } => self.cell.host().tell(to, *request),
        }
    }

    /// Lets messages be handled whose senders have read enough.
    fn unclog(&mut self, cx: &mut Context<'_>) {
        for peer in mem::take(&mut self.clogged) {
            if peer.socket().poll_drained(limits::CLOGGED, cx).is_pending() {
                self.clogged.push(peer);
            } else {
                self.cell
                    .report(self.cell.now(), None, |machine, now| machine.unclog(now, peer.key()));
            }
        }
    }

    /// Whether a claim or a commit has ended.
    fn poll_storage(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(claim) = &mut self.claim
            && let Poll::Ready(result) = poll_guarded(claim, cx, Err)
        {
            self.claim = None;
            let result = result
                .map_err(|error| self.storage_failed("claimed", Failure::Error(error.into())));
            self.cell.report(self.cell.now(), None, |machine, now| machine.claimed(now, result));
            return true;
        }
        if let Some(commit) = &mut self.commit
            && let Poll::Ready((wake_up, result)) =
                poll_guarded(commit, cx, |error| (None, Err(error)))
        {
            self.commit = None;
            let took = self.cell.host().elapsed().saturating_sub(self.committing);
            self.cell.observe(Fact::Committed { took, failed: result.is_err() });
            // A commit that failed may be stored all the same.
            if let Some(WakeUp::At(at)) = wake_up {
                self.cell.host().wake_up(self.cell.address(), at);
            }
            let result = result
                .map_err(|error| self.storage_failed("stored", Failure::Commit(error.to_string())));
            self.cell
                .report(self.cell.now(), None, |machine, now| machine.commit_ended(now, result));
            return true;
        }
        false
    }

    /// Whether the machine's deadline was reached.
    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Duration>) -> bool {
        let Some(deadline) = deadline else { return false };
        // A timer that is too early is kept, because most deadlines only move to later times.
        if self.timer.as_ref().is_none_or(|(at, _)| *at > deadline) {
            self.timer = Some((deadline, self.cell.host().sleep_until(deadline)));
        }
        let Some((_, timer)) = &mut self.timer else { return false };
        if timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.timer = None;
        self.cell.report(self.cell.now(), None, |machine, now| machine.tick(now));
        true
    }

    fn storage_failed(&self, what: &str, failure: Failure) -> Failed {
        let id = self.cell.error_id();
        error!(error_id = %id, error = failure.detail(), "the room could not be {what}");
        Failed { failure, id }
    }
}

/// Whether the frames before it have to be at the sockets first.
fn is_behind_frames(output: &Output) -> bool {
    use Effect::{Accept, Close, HangUp};
    matches!(output, Output::Refuse(..) | Output::Effect(Accept(_) | Close(..) | HangUp(..)))
}

/// Polls a backend's future. A panic counts as a failure.
fn poll_guarded<T>(
    future: &mut Pin<Box<dyn Future<Output = T> + Send + '_>>,
    cx: &mut Context<'_>,
    failed: impl FnOnce(BackendError) -> T,
) -> Poll<T> {
    catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))).unwrap_or_else(|payload| {
        Poll::Ready(failed(BackendError::Failed(panic_message(payload).into())))
    })
}
