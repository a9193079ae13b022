use std::{
    future::{Future, poll_fn},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::future::BoxFuture;
use futures_util::{FutureExt, future::abortable};
use tracing::{Instrument, debug, error, warn};

use crate::{
    BackendError, Claim, Connection, ErrorId, Room, RoomId, Server,
    cell::RoomCell,
    error::{Failure, panic_message},
    fact::Fact,
    machine::{Answer, CancelReason, Effect, Failed, Job, Output, Targets},
    scope,
    turn::turn,
};

/// PartySocket gives a connect up after this time.
const SLOW_CONNECT: Duration = Duration::from_secs(4);

/// So many turns may follow one another before other tasks of the thread get theirs.
const TURNS_PER_YIELD: u32 = 64;

/// Runs a room until nothing is left to do: makes its instance, runs its handlers, commits, lets what
/// it says leave, puts it to sleep. Runtimes call it when [`Host::start`](crate::runtime::Host::start)
/// asks for it.
///
/// The future ends when the room sleeps and nothing waits; its connections stay. It has to be polled
/// to its end.
///
/// ```
/// use std::sync::Arc;
/// use partykit_core::{Server, runtime::{Host, RoomCell, drive}};
///
/// #[derive(Default)]
/// struct Chat;
/// impl Server for Chat {}
///
/// fn start(host: &dyn Host, room: Arc<RoomCell>) {
///     host.spawn(Box::pin(drive(room, |_| Chat)));
/// }
/// # let _ = start;
/// ```
pub async fn drive<S: Server>(cell: Arc<RoomCell>, make: impl Fn(&RoomId) -> S + Send) {
    let (party, room) = (cell.address().party(), cell.address().room().as_str());
    let span = tracing::info_span!("room", party, room);
    run(cell, make).instrument(span).await;
}

async fn run<S: Server>(cell: Arc<RoomCell>, make: impl Fn(&RoomId) -> S + Send) {
    let mut pump = Pump::new(cell.clone());
    let mut instance = None;
    let mut turns = 0_u32;
    loop {
        match poll_fn(|cx| pump.poll(cx)).await {
            Step::Run(job) => {
                turns = turns.wrapping_add(1);
                // Events that arrive together are handled together, and what the room says to one
                // client in answer to all of them leaves in one write. And a busy room lets others run.
                if mem::take(&mut pump.rested) || turns.is_multiple_of(TURNS_PER_YIELD) {
                    yield_now().await;
                }
                let result = run_turn(&cell, &mut pump, &mut instance, &make, job).await;
                cell.report(|machine, now| machine.turn_ended(now, result));
            }
            Step::DropInstance => {
                let instance = instance.take();
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(instance))) {
                    error!(
                        "the instance panicked while it was dropped: {}",
                        panic_message(payload)
                    );
                }
                match pump.ended.take() {
                    Some(Fact::Slept { awake }) => debug!(?awake, "the room sleeps"),
                    Some(Fact::Reset { awake }) => debug!(?awake, "the room is reset"),
                    _ => debug!("the room could not start"),
                }
            }
            Step::Cancel(_) => {}
            Step::Rest => return,
        }
    }
}

/// One turn, while commits, timers and other outputs go on beside it.
async fn run_turn<S: Server>(
    cell: &Arc<RoomCell>,
    pump: &mut Pump,
    instance: &mut Option<S>,
    make: &(impl Fn(&RoomId) -> S + Send),
    job: Job,
) -> Result<Answer, Failed> {
    let begun = cell.host().elapsed();
    let handler = job.handler();
    let connection = job.connection().cloned();
    let arrived = if let Job::Connect { arrived, .. } = &job { Some(*arrived) } else { None };
    let handled = |failed: bool| {
        let took = cell.host().elapsed().saturating_sub(begun);
        cell.observe(Fact::Handled { handler, took, failed });
        took
    };
    let room = Room::new(cell.clone());
    let turn_id = room.turn();
    if matches!(job, Job::Start) {
        let cause = room.wake_cause().map(tracing::field::display);
        debug!(reason = ?room.start_reason(), cause, "the room wakes");
    }
    let mut future = pin!(Some(perform(instance, make, &room, job)));
    let ended = poll_fn(|cx| {
        let handler = future.as_mut().as_pin_mut();
        let Some(handler) = handler else {
            return Poll::Ready(Err(CancelReason::Timeout(Duration::ZERO)));
        };
        if let Poll::Ready(result) = scope::enter(&**cell, turn_id, || handler.poll(cx)) {
            return Poll::Ready(Ok(result));
        }
        match ready!(pump.poll(cx)) {
            Step::Cancel(reason) => Poll::Ready(Err(reason)),
            // The machine gives nothing else out while a turn runs.
            Step::Run(_) | Step::DropInstance | Step::Rest => Poll::Pending,
        }
    })
    .await;
    // Drops what the handler held, as a part of its turn: it may still say something.
    let dropped =
        scope::enter(&**cell, turn_id, || catch_unwind(AssertUnwindSafe(|| future.set(None))));
    let failure = match (ended, dropped) {
        (_, Err(payload)) => Failure::Panic(panic_message(payload)),
        (Ok(Ok(answer)), Ok(())) => {
            let took = handled(false);
            let now = begun + took;
            let limit = cell.machine(|machine| machine.options().handler_timeout);
            if took > limit {
                warn!(%handler, "ran for {took:?} without an await at which it could have been cancelled");
                cell.machine(crate::machine::Machine::overran);
            } else if arrived.is_some_and(|arrived| now.saturating_sub(arrived) > SLOW_CONNECT) {
                warn!(
                    connection = connection.as_ref().map(Connection::id),
                    "a connect took over {SLOW_CONNECT:?}: PartySocket does not wait that long"
                );
            }
            return Ok(keep_awake_while_open(cell, answer));
        }
        (Ok(Err(failure)), Ok(())) => failure,
        (Err(CancelReason::Timeout(limit)), Ok(())) => Failure::Timeout(limit),
        (Err(CancelReason::CommitFailed(id)), Ok(())) => {
            let failure = Failure::Commit("an earlier commit of the room failed".to_owned());
            handled(true);
            return Err(Failed { failure, id });
        }
    };
    handled(true);
    let id = ErrorId::random(&**cell.host());
    error!(%handler, connection = connection.as_ref().map(Connection::id), error_id = %id, "{handler} {failure}");
    Err(Failed { failure, id })
}

/// Makes the instance if there is none, and runs the handler. A panic is an error as any other.
async fn perform<S: Server>(
    instance: &mut Option<S>,
    make: &(impl Fn(&RoomId) -> S + Send),
    room: &Room,
    job: Job,
) -> Result<Answer, Failure> {
    let handle = async {
        let server = instance.get_or_insert_with(|| make(room.room_id()));
        turn(server, room, job).await
    };
    match AssertUnwindSafe(handle).catch_unwind().await {
        Ok(result) => result.map_err(Failure::Error),
        Err(payload) => Err(Failure::Panic(panic_message(payload))),
    }
}

/// Does what the machine wants done, and waits for what it waits for.
struct Pump {
    cell: Arc<RoomCell>,
    claim: Option<BoxFuture<'static, Result<Claim, BackendError>>>,
    commit: Option<BoxFuture<'static, Result<(), BackendError>>>,
    /// When the commit began.
    committing: Duration,
    timer: Option<(Duration, BoxFuture<'static, ()>)>,
    outputs: Vec<Output>,
    /// Where something was queued since the last flush.
    unflushed: Vec<Targets>,
    /// Nothing waited since the last flush.
    rested: bool,
    /// Why the instance that is to be dropped is dropped.
    ended: Option<Fact>,
}

/// What the driver has to do by itself.
enum Step {
    Cancel(CancelReason),
    DropInstance,
    Rest,
    Run(Job),
}

impl Pump {
    fn new(cell: Arc<RoomCell>) -> Self {
        Self {
            cell,
            claim: None,
            commit: None,
            committing: Duration::ZERO,
            timer: None,
            outputs: Vec::new(),
            unflushed: Vec::new(),
            rested: true,
            ended: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            let mut outputs = mem::take(&mut self.outputs);
            let (deadline, facts) = self.cell.take_outputs(cx.waker(), &mut outputs);
            for fact in facts {
                self.cell.observe(fact);
                if !matches!(fact, Fact::Woke(_)) {
                    self.ended = Some(fact);
                }
            }
            let idle = outputs.is_empty();
            let mut step = None;
            for output in outputs.drain(..) {
                step = self.apply(output);
            }
            self.outputs = outputs;
            if let Some(step) = step {
                return Poll::Ready(step);
            }
            if !idle || self.poll_storage(cx) || self.poll_timer(cx, deadline) {
                continue;
            }
            if self.claim.is_none() && self.commit.is_none() && self.cell.retire_driver() {
                return Poll::Ready(Step::Rest);
            }
            self.rested = true;
            return Poll::Pending;
        }
    }

    fn apply(&mut self, output: Output) -> Option<Step> {
        match output {
            Output::Cancel(reason) => return Some(Step::Cancel(reason)),
            Output::CancelTasks(tasks) => tasks.iter().for_each(|id| self.cell.abort_task(*id)),
            Output::Claim => {
                let cell = self.cell.clone();
                self.claim =
                    Some(Box::pin(
                        async move { cell.host().backend().claim(cell.address()).await },
                    ));
            }
            Output::Commit(batch) => {
                let cell = self.cell.clone();
                let epoch = cell.machine(|machine| machine.epoch());
                self.committing = cell.host().elapsed();
                self.commit = Some(Box::pin(async move {
                    let Some(epoch) = epoch else {
                        return Err(BackendError::Failed("not claimed".into()));
                    };
                    let batch = Arc::unwrap_or_clone(batch);
                    cell.host().backend().commit(cell.address(), epoch, batch).await
                }));
            }
            Output::Discard(discard) => {
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(discard))) {
                    error!("a value panicked while it was dropped: {}", panic_message(payload));
                }
            }
            Output::DropInstance => return Some(Step::DropInstance),
            Output::Effect(effect) => self.leave(effect),
            Output::Flush => {
                for targets in self.unflushed.drain(..) {
                    targets.reached().iter().for_each(|connection| connection.socket().flush());
                }
            }
            Output::Refuse(connection, close) => connection.socket().refuse(close),
            Output::Run(job) => return Some(Step::Run(job)),
        }
        None
    }

    fn leave(&mut self, effect: Effect) {
        match effect {
            Effect::Accept(connection) => {
                connection.socket().accept();
                let older =
                    self.cell.machine(|machine| machine.roster().before(&connection).cloned());
                if let Some(older) = older {
                    older.socket().probe();
                }
            }
            Effect::Close(connection, close) | Effect::HangUp(connection, close) => {
                connection.socket().close(close);
                self.flush_later(Targets::One(connection));
            }
            Effect::Frame { to, frame } => {
                let mut receivers = 0;
                for connection in to.iter() {
                    connection.socket().send(&frame);
                    receivers += 1;
                }
                if matches!(to, Targets::Many { .. }) {
                    self.cell.observe(Fact::Broadcast { receivers });
                }
                self.flush_later(to);
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

    fn flush_later(&mut self, targets: Targets) {
        // A room mostly speaks to the same connections again.
        if !self.unflushed.iter().rev().take(4).any(|known| known.reaches_same(&targets)) {
            self.unflushed.push(targets);
        }
    }

    /// Whether a claim or a commit has ended.
    fn poll_storage(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(claim) = &mut self.claim
            && let Poll::Ready(result) = poll_guarded(claim, cx)
        {
            self.claim = None;
            let result = result.map_err(|error| self.storage_failed("claimed", error));
            self.cell.report(|machine, now| machine.claimed(now, result));
            return true;
        }
        if let Some(commit) = &mut self.commit
            && let Poll::Ready(result) = poll_guarded(commit, cx)
        {
            self.commit = None;
            let took = self.cell.host().elapsed().saturating_sub(self.committing);
            self.cell.observe(Fact::Committed { took, failed: result.is_err() });
            let result = result.map_err(|error| self.storage_failed("stored", error));
            self.cell.report(|machine, now| machine.commit_ended(now, result));
            return true;
        }
        false
    }

    /// Whether it was time for something.
    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Duration>) -> bool {
        let Some(deadline) = deadline else { return false };
        // A timer that is too early stays: most deadlines only ever move away.
        if self.timer.as_ref().is_none_or(|(at, _)| *at > deadline) {
            self.timer = Some((deadline, self.cell.host().sleep_until(deadline)));
        }
        let Some((_, timer)) = &mut self.timer else { return false };
        if timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.timer = None;
        self.cell.report(|machine, now| machine.tick(now));
        true
    }

    fn storage_failed(&self, what: &str, error: BackendError) -> Failed {
        let id = ErrorId::random(&**self.cell.host());
        error!(error_id = %id, "the room could not be {what}: {error}");
        let failure = match what {
            "claimed" => Failure::Error(error.into()),
            _ => Failure::Commit(error.to_string()),
        };
        Failed { failure, id }
    }
}

/// Polls a backend's future; its panic is its failure.
fn poll_guarded<T>(
    future: &mut Pin<Box<dyn Future<Output = Result<T, BackendError>> + Send>>,
    cx: &mut Context<'_>,
) -> Poll<Result<T, BackendError>> {
    catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))).unwrap_or_else(|payload| {
        Poll::Ready(Err(BackendError::Failed(panic_message(payload).into())))
    })
}

/// A response that streams keeps the room awake until its body ends, or is dropped.
fn keep_awake_while_open(cell: &Arc<RoomCell>, answer: Answer) -> Answer {
    match answer {
        Answer::Response(response) if response.body().is_stream() => {
            let open = OpenBody::new(cell.clone());
            Answer::Response(response.map(|body| body.hold(open)))
        }
        answer => answer,
    }
}

/// Counts an open body while it lives.
struct OpenBody(Arc<RoomCell>);

impl OpenBody {
    fn new(cell: Arc<RoomCell>) -> Self {
        cell.machine(crate::machine::Machine::body_opened);
        Self(cell)
    }
}

impl Drop for OpenBody {
    fn drop(&mut self) {
        self.0.tell_machine(|machine, now| machine.body_ended(now));
    }
}

/// Lets other tasks run first.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
