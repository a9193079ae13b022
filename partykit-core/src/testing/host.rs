use std::{
    collections::{BTreeMap, HashMap},
    future::poll_fn,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_core::{Stream, future::BoxFuture};
use futures_util::stream::FuturesUnordered;

use crate::{
    Backend, CallError, Handler, Lobby, Request, Response, RoomAddress, Timestamp,
    runtime::{AppState, Chain, Host, RoomCell},
    value::splitmix::SplitMix64,
};

/// Runs the driver of a room's party.
pub(super) type Drive = Box<dyn Fn(Arc<RoomCell>) -> BoxFuture<'static, ()> + Send + Sync>;

/// Answers calls to other rooms.
pub(super) type Callee =
    Box<dyn Fn(&RoomAddress, Request, Chain) -> Result<Response, CallError> + Send + Sync>;

/// The start of the virtual wall clock: the first moment of 2024.
const EPOCH: Timestamp = Timestamp::from_millis(1_704_067_200_000);

/// The runtime of one [`TestRoom`](super::TestRoom).
pub(super) struct TestHost {
    pub(super) drive: Drive,
    pub(super) callee: Option<Callee>,
    pub(super) vars: HashMap<String, String>,
    pub(super) app_state: AppState,
    pub(super) backend: Arc<dyn Backend>,
    state: Mutex<State>,
    /// The drivers and tasks. `None` while `settle` polls them.
    tasks: Mutex<Option<Tasks>>,
}

type Tasks = FuturesUnordered<BoxFuture<'static, ()>>;

struct State {
    elapsed: Duration,
    random: SplitMix64,
    timers: BTreeMap<(Duration, u64), Waker>,
    next_timer: u64,
    /// Futures that were started since the last poll.
    incoming: Vec<BoxFuture<'static, ()>>,
    /// The failures of handlers since the last call.
    errors: Vec<String>,
    /// What the room told other rooms.
    told: Vec<(RoomAddress, Request)>,
    /// What the room asked other rooms, a line for each call.
    asked: Vec<String>,
    /// When the store is to be asked whether the alarm is due.
    ask_at: Option<Timestamp>,
    /// How often in a row the alarm could not ring.
    rung_in_vain: u32,
    /// The room was told that its alarm may be due, and has not answered yet.
    ringing: bool,
    /// When the current process began.
    started: Duration,
    /// Counts the processes.
    process: u64,
}

impl TestHost {
    pub(super) fn new(
        drive: Drive,
        callee: Option<Callee>,
        vars: HashMap<String, String>,
        app_state: AppState,
        backend: Arc<dyn Backend>,
        seed: u64,
    ) -> Arc<Self> {
        let state = State {
            elapsed: Duration::ZERO,
            random: SplitMix64::new(seed),
            timers: BTreeMap::new(),
            next_timer: 0,
            incoming: Vec::new(),
            errors: Vec::new(),
            told: Vec::new(),
            asked: Vec::new(),
            // An earlier process may have left an alarm.
            ask_at: Some(EPOCH),
            rung_in_vain: 0,
            ringing: false,
            started: Duration::ZERO,
            process: 0,
        };
        let tasks = Mutex::new(Some(FuturesUnordered::new()));
        Arc::new(Self { drive, callee, vars, app_state, backend, state: Mutex::new(state), tasks })
    }

    /// Runs everything until it waits for time or for something outside.
    pub(super) async fn settle(&self) {
        poll_fn(|cx| {
            let taken = lock(&self.tasks).take();
            let Some(mut tasks) = taken else {
                // Another `settle` polls them: one that called this code, or one on another thread.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            };
            let alarm = Arc::new(Alarm { rung: AtomicBool::new(true), outer: cx.waker().clone() });
            let waker = Waker::from(alarm.clone());
            while alarm.rung.swap(false, Ordering::SeqCst) || !self.state().incoming.is_empty() {
                tasks.extend(mem::take(&mut self.state().incoming));
                let mut cx = Context::from_waker(&waker);
                while let Poll::Ready(Some(())) = std::pin::Pin::new(&mut tasks).poll_next(&mut cx)
                {
                }
            }
            *lock(&self.tasks) = Some(tasks);
            Poll::Ready(())
        })
        .await;
    }

    /// Drops all drivers and tasks in the middle of their work.
    pub(super) fn crash(&self) {
        let tasks = lock(&self.tasks).replace(FuturesUnordered::new());
        let incoming = mem::take(&mut self.state().incoming);
        drop((tasks, incoming));
        let mut state = self.state();
        state.timers.clear();
        (state.ask_at, state.rung_in_vain, state.ringing) = (Some(EPOCH), 0, false);
        state.started = state.elapsed;
        state.process += 1;
    }

    /// The number of the process that runs.
    pub(super) fn process(&self) -> u64 {
        self.state().process
    }

    /// Moves the clock to the next timer or alarm that is due by `until`. If there is none, moves it to
    /// `until` and returns `false`.
    pub(super) fn pass(&self, until: Duration) -> bool {
        let mut state = self.state();
        let timer = state.timers.first_key_value().map(|((at, _), _)| *at);
        let alarm = state.ask_at.map(|at| at.since(EPOCH)).filter(|at| *at > state.elapsed);
        let due = timer.into_iter().chain(alarm).min().filter(|at| *at <= until);
        state.elapsed = state.elapsed.max(due.unwrap_or(until));
        let now = state.elapsed;
        let later = state.timers.split_off(&(now, u64::MAX));
        let rung = mem::replace(&mut state.timers, later);
        drop(state);
        rung.into_values().for_each(Waker::wake);
        due.is_some()
    }

    /// Rings the alarm of `room` if it is due. Returns whether it was due.
    pub(super) async fn ring(self: &Arc<Self>, room: &Arc<RoomCell>) -> bool {
        let now = self.now();
        {
            let state = self.state();
            if state.ringing || state.ask_at.is_none_or(|at| at > now) {
                return false;
            }
        }
        let Ok(found) = self.backend.wake_ups(None, usize::MAX).await else {
            self.state().ask_at = Some(now + Duration::from_secs(1));
            return false;
        };
        let own = found.into_iter().find(|(_, address)| address == room.address());
        let at = own.map(|(at, _)| at);
        if at.is_none_or(|at| at > now) {
            self.state().ask_at = at;
            return false;
        }
        {
            let mut state = self.state();
            (state.ask_at, state.ringing) = (None, true);
        }
        let (host, ringing) = (Arc::downgrade(self), room.alarm());
        self.spawn(Box::pin(async move {
            let result = ringing.await;
            if let Some(host) = host.upgrade() {
                host.rung(result.is_ok());
            }
        }));
        true
    }

    fn rung(&self, well: bool) {
        let mut state = self.state();
        state.ringing = false;
        if well {
            state.rung_in_vain = 0;
            return;
        }
        let again = EPOCH + state.elapsed + Duration::from_secs(1 << state.rung_in_vain.min(5));
        state.rung_in_vain += 1;
        state.ask_at = Some(state.ask_at.map_or(again, |at| at.min(again)));
    }

    /// What the before-hooks see.
    pub(super) fn lobby(self: &Arc<Self>, address: &RoomAddress) -> Lobby {
        let host = self.clone();
        let lobby = Lobby::new(address.clone(), move |name| host.var(name));
        lobby.with_state(self.app_state.clone())
    }

    pub(super) fn note_error(&self, error: String) {
        self.state().errors.push(error);
    }

    pub(super) fn take_errors(&self) -> Vec<String> {
        mem::take(&mut self.state().errors)
    }

    pub(super) fn take_told(&self) -> Vec<(RoomAddress, Request)> {
        mem::take(&mut self.state().told)
    }

    pub(super) fn take_asked(&self) -> Vec<String> {
        mem::take(&mut self.state().asked)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Host for Arc<TestHost> {
    fn elapsed(&self) -> Duration {
        self.state().elapsed
    }

    fn started(&self) -> Duration {
        self.state().started
    }

    fn now(&self) -> Timestamp {
        EPOCH + self.elapsed()
    }

    fn random(&self, bytes: &mut [u8]) {
        let mut state = self.state();
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&state.random.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }

    fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).cloned()
    }

    fn app_state(&self) -> Option<&AppState> {
        Some(&self.app_state)
    }

    fn handler_failed(&self, _: &RoomAddress, handler: Handler, text: &str) {
        self.note_error(format!("{handler} {text}"));
    }

    fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        let host = self.clone();
        let id = {
            let mut state = self.state();
            state.next_timer += 1;
            state.next_timer
        };
        let mut timer = Timer { host, at, id };
        Box::pin(poll_fn(move |cx| timer.poll(cx)))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.state().incoming.push(task);
    }

    fn start(&self, room: &Arc<RoomCell>) {
        let driver = (self.drive)(room.clone());
        self.state().incoming.push(driver);
    }

    fn vacant(&self, _: &Arc<RoomCell>) {}

    fn call(
        &self,
        to: RoomAddress,
        request: Request,
        chain: Chain,
    ) -> BoxFuture<'static, Result<Response, CallError>> {
        self.state().asked.push(line(&to, &request));
        let answer = match &self.callee {
            Some(callee) => callee(&to, request, chain),
            None => Err(CallError::UnknownParty(to.party().to_owned())),
        };
        Box::pin(std::future::ready(answer))
    }

    fn tell(&self, to: RoomAddress, request: Request) {
        self.state().told.push((to, request));
    }

    fn wake_up(&self, _: &RoomAddress, at: Timestamp) {
        let mut state = self.state();
        state.ask_at = Some(state.ask_at.map_or(at, |before| before.min(at)));
    }

    fn knows_party(&self, _: &str) -> bool {
        true
    }
}

/// A request to another room, as a line: `bank/all: POST / Some(b"pay")`.
pub(super) fn line(to: &RoomAddress, request: &Request) -> String {
    format!("{to}: {} {} {:?}", request.method(), request.uri(), request.body().bytes())
}

/// Waits for the virtual clock.
struct Timer {
    host: Arc<TestHost>,
    at: Duration,
    id: u64,
}

impl Timer {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.host.state();
        if state.elapsed >= self.at {
            return Poll::Ready(());
        }
        state.timers.insert((self.at, self.id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.host.state().timers.remove(&(self.at, self.id));
    }
}

/// A waker that notes that a future can go on.
struct Alarm {
    rung: AtomicBool,
    outer: Waker,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        self.outer.wake_by_ref();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
