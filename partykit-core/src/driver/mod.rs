//! Runs a room: makes its instance, and runs its handlers one after the other.

mod alarm;
mod dispatch;
#[cfg_attr(not(feature = "schedules"), path = "no_schedules.rs")]
mod schedules;

use std::{
    future::{Future, poll_fn},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
    thread,
    time::Duration,
};

use tracing::{Instrument, debug, error, warn};

use self::dispatch::{errand, turn};
use crate::{
    Connection, ErrorId, Handler, Room, RoomId, Server, StorageError,
    engine::{
        cell::{Driving, RoomCell},
        host::{Host, yield_now},
        pump::{Pump, Step},
        scope,
    },
    machine::{Answer, CancelReason, Event, Fact, Failed, Job, Scope, TurnMut},
    value::{
        failure::{Failure, panic_message},
        limits,
    },
};

/// PartySocket gives a connect up after this time.
const SLOW_CONNECT: Duration = Duration::from_secs(4);

/// After this many turns a busy room lets others run, as after [`limits::SLICE`], because on some platforms the
/// clock stands still.
const TURNS_PER_YIELD: u32 = 64;

/// Runs a room until nothing is left to do: makes its instance, runs its handlers, commits their writes,
/// sends its outputs, and puts it to sleep. Runtimes call it when
/// [`Host::start`](crate::runtime::Host::start) asks for it.
///
/// The future ends when the room sleeps and nothing waits. The connections stay. It has to be polled to its
/// end.
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
    // An error span: a subscriber that shows only errors also shows in which room they happened.
    let span = tracing::error_span!("room", party, room);
    run(cell, make).instrument(span).await;
}

async fn run<S: Server>(cell: Arc<RoomCell>, make: impl Fn(&RoomId) -> S + Send) {
    let cell = Driving::new(cell);
    let mut pump = Pump::new(&cell);
    let mut room = Room::new(&cell);
    let mut instance = None;
    if size_of::<S>() == 0 {
        cell.report(cell.now(), None, |machine, _| machine.set_stateless());
    }
    let mut slice = Slice::default();
    loop {
        let (step, waits) = poll_fn(|cx| pump.poll_step(cx)).await;
        match step {
            Step::Run(turn, job) => {
                if mem::take(&mut pump.rested) {
                    // Events that arrive together are handled together, so that all answers to one client
                    // leave in one write.
                    if !cell.host().is_gathered() {
                        yield_now().await;
                    }
                    slice.restart();
                }
                let job = if waits { postpone(&cell, &mut pump, job) } else { Some(job) };
                let Some(job) = job else { continue };
                if mem::take(&mut pump.took_time) {
                    slice.read_the_clock();
                }
                let begun = match slice.begin_turn(&**cell.host()) {
                    Some(begun) => begun,
                    None => slice.begin_another(&**cell.host()).await,
                };
                room.begin(&cell, turn);
                let mut job = Some(job);
                let ended = run_turn(&room, &mut pump, &mut instance, &make, &mut job, begun).await;
                slice.turn_ended(ended.times.ended);
                conclude(&room, &mut pump, ended);
            }
            Step::DropInstance(why) => {
                let instance = instance.take();
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(instance))) {
                    let error = panic_message(payload);
                    error!(error = error.as_str(), "the instance panicked while it was dropped");
                }
                match why {
                    Fact::Slept { awake } => debug!(?awake, "the room sleeps"),
                    Fact::Reset { awake } => debug!(?awake, "the room is reset"),
                    _ => debug!("the room could not start"),
                }
            }
            Step::Cancel(_) => {}
            Step::Rest => return,
        }
    }
}

/// Lets a message wait if its sender does not read what waits for it. Other messages go first. So answers to
/// one client do not pile up. `None` if the message waits.
fn postpone(cell: &Driving, pump: &mut Pump<'_>, job: Job) -> Option<Job> {
    let Job::Handle(Event::Message { sender, .. }) = &job else { return Some(job) };
    let sender = sender.peer();
    match cell.report(cell.now(), None, |machine, now| machine.postpone(now, job)) {
        Ok(()) => {
            pump.clogged.push(sender);
            None
        }
        Err(job) => Some(job),
    }
}

/// How a turn has ended.
struct Ended {
    handler: Result<Result<Answer, Failure>, CancelReason>,
    /// What was dropped with it may have panicked.
    dropped: thread::Result<()>,
    times: Times,
}

/// Tells the machine how a turn has ended.
fn conclude(room: &Room, pump: &mut Pump<'_>, ended: Ended) {
    let cell = room.cell();
    let (now, took, crowded) = (ended.times.ended, ended.times.took(), cell.host().is_crowded());
    // The usual end takes the room's lock once.
    if let (Ok(Ok(Answer::Done)), Ok(())) = (&ended.handler, &ended.dropped) {
        let scope = Scope { turn: room.turn(), transaction: 0 };
        let was_slow = ended.times.waited().is_some_and(|waited| waited > SLOW_CONNECT);
        let succeeded = pump.report(now, |machine, now| {
            let mut turn = machine.turn(scope)?;
            if turn.overflow().is_some() || turn.is_misused() {
                return None;
            }
            let success = Success::of(&mut turn, took);
            let late = if was_slow { turn.connection() } else { None };
            machine.set_crowded(crowded);
            machine.turn_ended(now, Ok(Answer::Done));
            Some((success, late))
        });
        if let Some((success, late)) = succeeded {
            success.tell(cell);
            if let Some(connection) = late {
                warn!(
                    connection = connection.id(),
                    "a connect took over {SLOW_CONNECT:?}: PartySocket gives up by then and connects again"
                );
            }
            return;
        }
    }
    let result = judge(room, ended);
    pump.report(now, |machine, now| {
        machine.set_crowded(crowded);
        machine.turn_ended(now, result);
    });
}

/// A turn that succeeded.
struct Success {
    handler: Handler,
    took: Duration,
    overran: bool,
}

impl Success {
    fn of(turn: &mut TurnMut<'_>, took: Duration) -> Self {
        // A turn that was to look at the alarm may have run a schedule.
        let (handler, overran) = (turn.handler(), took > turn.options().handler_timeout);
        if overran {
            turn.overran();
        }
        Self { handler, took, overran }
    }

    fn tell(self, cell: &RoomCell) {
        let Self { handler, took, overran } = self;
        cell.observe(Fact::Handled { handler, took, failed: false });
        if overran {
            warn!(%handler, "a handler ran for {took:?} without an await, so it could not be cancelled");
        }
    }
}

/// Runs one turn. Commits, timers and other outputs go on beside it.
async fn run_turn<S: Server>(
    room: &Room,
    pump: &mut Pump<'_>,
    instance: &mut Option<S>,
    make: &(impl Fn(&RoomId) -> S + Send),
    job: &mut Option<Job>,
    begun: Duration,
) -> Ended {
    let (cell, turn) = (room.cell(), room.turn());
    let arrived = match job {
        Some(Job::Handle(Event::Connect { arrived, .. })) => Some(*arrived),
        _ => None,
    };
    if matches!(job, Some(Job::Start)) {
        debug!(
            reason = ?room.start_reason(),
            cause = room.wake_cause().map(tracing::field::display),
            "the room wakes"
        );
    }
    let mut future = pin!(Some(perform(instance, make, room, job)));
    let handler = poll_fn(|cx| {
        let handler = future.as_mut().as_pin_mut();
        let Some(handler) = handler else { unreachable!("it is dropped below") };
        if let Poll::Ready(result) = scope::enter(&**cell, turn, || handler.poll(cx)) {
            return Poll::Ready(Ok(result));
        }
        match ready!(pump.poll(cx)) {
            Step::Cancel(reason) => Poll::Ready(Err(reason)),
            // The machine returns none of these while a turn runs.
            Step::Run(..) | Step::DropInstance(_) | Step::Rest => Poll::Pending,
        }
    })
    .await;
    // Drops what the handler held, as a part of its turn, because the drop may still send something.
    let dropped =
        scope::enter(&**cell, turn, || catch_unwind(AssertUnwindSafe(|| future.set(None))));
    Ended { handler, dropped, times: Times { begun, arrived, ended: cell.host().elapsed() } }
}

/// The times of one turn.
struct Times {
    begun: Duration,
    /// Of a client that connects.
    arrived: Option<Duration>,
    ended: Duration,
}

impl Times {
    fn took(&self) -> Duration {
        self.ended.saturating_sub(self.begun)
    }

    /// How long a client that connects has waited.
    fn waited(&self) -> Option<Duration> {
        self.arrived.map(|arrived| self.ended.saturating_sub(arrived))
    }
}

/// What came of a turn that has not just ended well. A failure is logged.
fn judge(room: &Room, ended: Ended) -> Result<Answer, Failed> {
    let (cell, Ended { handler: ended, dropped, times }) = (room.cell(), ended);
    let (handler, overflow, is_misused) =
        room.inside(|turn| (turn.handler(), turn.overflow(), turn.is_misused()));
    let took = times.took();
    let connection = || room.inside(|turn| turn.connection());
    let handled = |failed: bool| cell.observe(Fact::Handled { handler, took, failed });
    let failure = match (ended, dropped) {
        (_, Err(payload)) => Failure::Panic(panic_message(payload)),
        (Err(CancelReason::CommitFailed(id)), Ok(())) => {
            let failure = Failure::Commit("an earlier commit of the room failed".to_owned());
            handled(true);
            return Err(Failed { failure, id });
        }
        // Its outputs are lost, so it has failed, even if it returned `Ok`.
        (_, Ok(())) if overflow.is_some() => {
            let (bytes, limit) = overflow.unwrap_or_default();
            Failure::SaidTooMuch { bytes, limit }
        }
        (Ok(Ok(Answer::NotNow)), Ok(())) => return Ok(Answer::NotNow),
        (Ok(Ok(_)), Ok(())) if is_misused => Failure::Error(StorageError::TransactionEnded.into()),
        (Ok(Ok(answer)), Ok(())) => {
            room.inside(|turn| Success::of(turn, took)).tell(cell);
            return Ok(keep_awake_while_open(room, answer));
        }
        (Ok(Err(failure)), Ok(())) => failure.judged(handler),
        (Err(CancelReason::Timeout(limit)), Ok(())) => Failure::Timeout(limit),
        (Err(CancelReason::SaidTooMuch { bytes, limit }), Ok(())) => {
            Failure::SaidTooMuch { bytes, limit }
        }
    };
    if let Failure::Rejected(reject) = &failure {
        handled(false);
        cell.observe(Fact::Rejected { handler });
        debug!(
            %handler,
            connection = connection().as_ref().map(Connection::id),
            status = reject.status().as_u16(),
            text = reject.text(),
            "{handler} rejected what a client sent"
        );
        return Err(Failed { failure, id: ErrorId::from_bytes([0; 8]) });
    }
    handled(true);
    let id = cell.error_id();
    error!(
        %handler,
        connection = connection().as_ref().map(Connection::id),
        error_id = %id,
        error = failure.detail(),
        "{handler} {}",
        failure.what()
    );
    cell.host().handler_failed(cell.address(), handler, &failure.to_string());
    Err(Failed { failure, id })
}

/// Makes the instance if there is none, and runs the handler. A panic counts as an error.
async fn perform<S: Server>(
    instance: &mut Option<S>,
    make: &(impl Fn(&RoomId) -> S + Send),
    room: &Room,
    job: &mut Option<Job>,
) -> Result<Answer, Failure> {
    let job = Given(job);
    let mut handle = pin!(async move {
        // Waiting for memory counts as the handler's time.
        if let Some(relief) = room.cell().host().relief() {
            relief.await;
        }
        if matches!(job.0, Some(Job::Start)) && !errand(room).await? {
            return Ok(Answer::NotNow);
        }
        let server = instance.get_or_insert_with(|| make(room.room_id()));
        turn(server, room, job.0).await
    });
    // The future stays where it is: a handler's may be large, and this happens for each event.
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| handle.as_mut().poll(cx))) {
        Ok(poll) => poll.map_err(Failure::Error),
        Err(payload) => Poll::Ready(Err(Failure::Panic(panic_message(payload)))),
    })
    .await
}

/// A job that is kept once, and not by each of the futures that pass it on. It is dropped with the innermost one.
struct Given<'a>(&'a mut Option<Job>);

impl Drop for Given<'_> {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

/// A streamed response keeps the room awake until its body ends or is dropped.
fn keep_awake_while_open(room: &Room, answer: Answer) -> Answer {
    match answer {
        Answer::Response(response) if response.body().is_stream() => {
            let open = OpenBody::new(room);
            response.map(|body| body.hold(open)).into()
        }
        answer => answer,
    }
}

/// Counts an open body until it is dropped.
struct OpenBody(Arc<RoomCell>);

impl OpenBody {
    fn new(room: &Room) -> Self {
        let now = room.cell().host().elapsed();
        room.inside(|turn| turn.open_body(now));
        Self(Arc::clone(room.cell()))
    }
}

impl Drop for OpenBody {
    fn drop(&mut self) {
        self.0.outside(|machine, now| machine.body_ended(now));
    }
}

/// How long a room has kept its thread busy.
#[derive(Default)]
struct Slice {
    /// When the slice began. `None` if no turn has run in it yet.
    begun: Option<Duration>,
    turns: u32,
    /// The time, if no time has passed since it was read.
    now: Option<Duration>,
}

impl Slice {
    fn restart(&mut self) {
        *self = Self::default();
    }

    /// A turn has ended just now.
    fn turn_ended(&mut self, now: Duration) {
        self.now = Some(now);
    }

    /// Time has passed since the last turn.
    fn read_the_clock(&mut self) {
        self.now = None;
    }

    /// Returns the time. `None` if the slice is over: others run first.
    fn begin_turn(&mut self, host: &dyn Host) -> Option<Duration> {
        let now = self.now.take().unwrap_or_else(|| host.elapsed());
        let begun = *self.begun.get_or_insert(now);
        if self.turns >= TURNS_PER_YIELD || now.saturating_sub(begun) >= limits::SLICE {
            return None;
        }
        self.turns += 1;
        Some(now)
    }

    /// Lets others run, then begins the first turn of the next slice. Returns the time.
    async fn begin_another(&mut self, host: &dyn Host) -> Duration {
        host.yield_now().await;
        let now = host.elapsed();
        *self = Self { begun: Some(now), turns: 1, ..Self::default() };
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Quiet;

    impl Server for Quiet {}

    fn size_of_result<F>(_: impl FnOnce(Arc<RoomCell>) -> F) -> usize {
        size_of::<F>()
    }

    /// Each room that is awake has one. A size of the usual allocators is 1,792, and handlers need some of it.
    #[test]
    fn a_driver_is_small() {
        let size = size_of_result(|cell| drive(cell, |_: &RoomId| Quiet));
        assert!(size <= 1664, "{size} bytes");
    }
}
