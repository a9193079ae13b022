use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    mem,
    sync::{Arc, Weak},
    task::Poll,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use partykit_core::{
    Backend, CallError, Refusal, Request, Response, RoomAddress, Timestamp, Vars,
    runtime::{AppState, Chain, Host, Mailboxes, RoomCell},
};
use tokio::{runtime, time::Instant};
use tracing::debug;

use crate::{
    alarms::Alarms,
    gather,
    party::Party,
    registry::Registry,
    socket::Outbound,
    store::{DiskBackend, StoreStats},
    watch::{self, Work},
};

/// The two clocks are not read at the same moment, because the thread may have to wait in between. A
/// difference below this counts as none.
const JITTER: Duration = Duration::from_millis(100);

/// A prime number, so that a few rooms that yield in turn are not always the same in it.
const YIELDS_PER_REQUEUE: u32 = 7;

thread_local! {
    /// How often rooms have yielded on this thread.
    static YIELDS: Cell<u32> = const { Cell::new(0) };
}

/// What rooms get from Tokio and from the operating system. One for each runtime.
pub(crate) struct TokioHost {
    me: Weak<Self>,
    parties: BTreeMap<Arc<str>, Party>,
    registry: Registry,
    backend: Arc<dyn Backend>,
    alarms: Arc<Alarms>,
    /// The store on disk, if this runtime has to close it.
    store: Option<DiskBackend>,
    vars: Vars,
    counts: Counts,
    tokio: runtime::Handle,
    origin: Instant,
    real_origin: std::time::Instant,
}

/// Counters and limits that all rooms and sockets share.
pub(crate) struct Counts {
    pub(crate) app_state: AppState,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) mailboxes: Arc<Mailboxes>,
}

impl TokioHost {
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub(crate) fn new(
        parties: BTreeMap<Arc<str>, Party>,
        backend: Arc<dyn Backend>,
        store: Option<DiskBackend>,
        vars: Vars,
        max_rooms: usize,
        counts: Counts,
    ) -> Arc<Self> {
        watch::start();
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            parties,
            registry: Registry::new(max_rooms),
            backend,
            alarms: Alarms::new(),
            store,
            vars,
            tokio: runtime::Handle::current(),
            counts,
            origin: Instant::now(),
            real_origin: std::time::Instant::now(),
        })
    }

    pub(crate) fn party(&self, name: &str) -> Option<&Party> {
        self.parties.get(name)
    }

    pub(crate) fn parties(&self) -> impl Iterator<Item = &Party> {
        self.parties.values()
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn alarms(&self) -> &Arc<Alarms> {
        &self.alarms
    }

    pub(crate) fn vars(&self) -> &Vars {
        &self.vars
    }

    /// The values of [`Builder::state`](crate::Builder::state).
    pub(crate) fn state(&self) -> &AppState {
        &self.counts.app_state
    }

    /// The state of the store on disk.
    pub(crate) fn store_stats(&self) -> Option<StoreStats> {
        self.store.as_ref().map(DiskBackend::stats)
    }

    /// The store on disk. `None` if the runtime has another backend.
    pub(crate) fn store(&self) -> Option<&DiskBackend> {
        self.store.as_ref()
    }

    /// Closes the store.
    pub(crate) async fn close_store(&self) {
        if let Some(store) = &self.store {
            store.close().await;
        }
    }

    pub(crate) fn tokio(&self) -> &runtime::Handle {
        &self.tokio
    }

    /// Gives a room of this party an input, see [`Registry::enter`].
    pub(crate) fn enter<R>(
        &self,
        party: &Party,
        address: &RoomAddress,
        input: impl FnOnce(&Arc<RoomCell>) -> R,
    ) -> Result<R, Refusal> {
        let Some(host) = self.me.upgrade() else { return Err(Refusal::ShuttingDown) };
        let make = || {
            // All rooms of a party share its name.
            let address = RoomAddress::new(party.name().clone(), address.room().clone());
            RoomCell::new(address, party.rooms(&host))
        };
        self.registry.enter(address, make, input, || party.meter().room_made())
    }
}

impl Host for TokioHost {
    fn elapsed(&self) -> Duration {
        gather::since(self.origin)
    }

    /// The wall clock. A test that pauses or moves Tokio's clock moves this one by the same distance.
    fn now(&self) -> Timestamp {
        // The order matters: if the thread is delayed in between, the result is a time in the past, never in
        // the future.
        let (virtual_, wall) = (self.origin.elapsed(), SystemTime::now());
        let real = self.real_origin.elapsed();
        let moved = match virtual_.checked_sub(real) {
            Some(ahead) if ahead > JITTER => wall + ahead,
            None if real - virtual_ > JITTER => wall - (real - virtual_),
            _ => wall,
        };
        moved.into()
    }

    fn random(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }

    fn var(&self, name: &str) -> Option<String> {
        (self.vars)(name)
    }

    fn app_state(&self) -> Option<&AppState> {
        Some(&self.counts.app_state)
    }

    fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        let _context = self.tokio.enter();
        Box::pin(tokio::time::sleep_until(self.origin + at))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.tokio.spawn(watch::over(Work::Other("a task of a room"), task));
    }

    /// Tokio looks at sockets and timers before it goes on with a task that has yielded. But then it runs this
    /// task before those that the sockets have woken. So the task sometimes goes to the end of the queue after
    /// that. Not always, because Tokio then wakes another thread, and two threads that take turns at what one
    /// could do need much more time for it.
    fn yield_now(&self) -> BoxFuture<'static, ()> {
        Box::pin(async {
            tokio::task::yield_now().await;
            let yields = YIELDS.replace(YIELDS.get().wrapping_add(1));
            if yields.is_multiple_of(YIELDS_PER_REQUEUE) {
                requeue().await;
            }
        })
    }

    fn is_gathered(&self) -> bool {
        gather::is_gathered()
    }

    fn is_crowded(&self) -> bool {
        self.registry.is_crowded()
    }

    fn mailboxes(&self) -> Option<Arc<Mailboxes>> {
        Some(self.counts.mailboxes.clone())
    }

    fn start(&self, room: &Arc<RoomCell>) {
        // A room exists only in a registered party.
        if let Some(party) = self.party(room.address().party()) {
            party.start(&self.tokio, room.clone());
        }
    }

    fn vacant(&self, room: &Arc<RoomCell>) {
        if self.registry.forget(room)
            && let Some(party) = self.party(room.address().party())
        {
            party.meter().room_forgotten();
            party.past().add(room.address().room(), &room.stats().account);
        }
    }

    fn call(
        &self,
        to: RoomAddress,
        request: Request,
        chain: Chain,
    ) -> BoxFuture<'static, Result<Response, CallError>> {
        let answer = match self.party(to.party()) {
            None => Err(CallError::UnknownParty(to.party().to_owned())),
            Some(_) if chain.contains(&to) => Err(CallError::Cycle(to.clone())),
            Some(party) => self
                .enter(party, &to, |cell| cell.request(request, chain))
                .map_err(|refusal| CallError::Refused(to.clone(), refusal)),
        };
        Box::pin(async move { answer?.await.map_err(|refusal| CallError::Refused(to, refusal)) })
    }

    fn tell(&self, to: RoomAddress, request: Request) {
        let Some(party) = self.party(to.party()) else { return };
        let told = self.enter(party, &to, |cell| cell.tell(request));
        if let Err(refusal) = told.and_then(|told| told) {
            debug!(
                party = to.party(),
                room = to.room().as_str(),
                "a tell to this room was lost: {refusal}"
            );
        }
    }

    fn wake_up(&self, room: &RoomAddress, at: Timestamp) {
        self.alarms.set(room, at, self.now());
    }

    fn relief(&self) -> Option<BoxFuture<'static, ()>> {
        self.counts.outbound.relief()
    }

    fn knows_party(&self, name: &str) -> bool {
        self.parties.contains_key(name)
    }

    #[cfg(feature = "metrics")]
    fn observe(&self, room: &RoomAddress, fact: partykit_core::runtime::Fact) {
        if let Some(party) = self.party(room.party()) {
            party.meter().observe(fact);
        }
    }
}

/// Has the task wait at the end of its thread's queue: Tokio puts a task there that wakes itself.
pub(crate) async fn requeue() {
    let mut queued = false;
    poll_fn(|cx| {
        if mem::replace(&mut queued, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Drop for TokioHost {
    fn drop(&mut self) {
        self.alarms.stop();
    }
}

impl fmt::Debug for TokioHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parties = self.parties.keys().collect::<Vec<_>>();
        f.debug_struct("TokioHost").field("parties", &parties).finish_non_exhaustive()
    }
}
