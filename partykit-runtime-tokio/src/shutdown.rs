#[cfg(unix)]
use std::{
    os::fd::{BorrowedFd, OwnedFd},
    sync::{Mutex, PoisonError, Weak},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use partykit_core::{
    Handler,
    runtime::{CloseReason, RoomCell},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tracing::{debug, info, warn};

use crate::host::TokioHost;

/// How long clients may take to answer their Close, and responses on their way to arrive.
const CLIENTS: Duration = Duration::from_secs(3);

/// How long a room may take to roll a cancelled handler back.
const ROLL_BACK: Duration = Duration::from_millis(500);

/// How long the store may take to close.
const STORE: Duration = Duration::from_millis(1000);

/// The time limits of a shutdown. Together with [`CLIENTS`], the defaults fit into the 10 s that Docker gives
/// a container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShutdownTimes {
    /// How long running handlers and open responses may take.
    pub(crate) grace: Duration,
    /// The time over which sockets are closed.
    pub(crate) spread: Duration,
}

impl Default for ShutdownTimes {
    fn default() -> Self {
        Self { grace: Duration::from_secs(5), spread: Duration::from_secs(5) }
    }
}

/// Shuts a runtime down, once.
#[derive(Debug)]
pub(crate) struct Shutdown {
    stage: watch::Sender<Stage>,
    /// A shutdown waits for all of these.
    http: Arc<Living>,
    sockets: Arc<Living>,
    /// Whether no client is let in for now, because the runtime is handed over.
    paused: watch::Sender<bool>,
    /// Held by a hand-over. A shutdown waits for its end.
    pub(crate) hand_over: tokio::sync::Mutex<()>,
    times: ShutdownTimes,
    /// What is listened on, for the next process.
    #[cfg(unix)]
    listeners: Mutex<Vec<Weak<OwnedFd>>>,
}

/// The stage of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    Stopping,
    Stopped,
}

/// A shutdown waits until this is dropped. Each socket has one, so it is a pointer and no more.
#[derive(Debug)]
pub(crate) struct Alive(Arc<Living>);

/// How many [`Alive`] there are.
#[derive(Debug, Default)]
struct Living {
    count: AtomicUsize,
    ended: Notify,
}

impl Living {
    fn begin(self: &Arc<Self>) -> Alive {
        self.count.fetch_add(1, Ordering::SeqCst);
        Alive(self.clone())
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits until all of them have ended.
    async fn ended(&self) {
        loop {
            // Made before the look: it hears of all that ends after it was made.
            let ended = self.ended.notified();
            if self.count() == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

impl Shutdown {
    pub(crate) fn new(times: ShutdownTimes) -> Self {
        Self {
            stage: watch::Sender::new(Stage::Serving),
            http: Arc::default(),
            sockets: Arc::default(),
            paused: watch::Sender::new(false),
            hand_over: tokio::sync::Mutex::default(),
            times,
            #[cfg(unix)]
            listeners: Mutex::default(),
        }
    }

    /// An HTTP connection.
    pub(crate) fn http(&self) -> Alive {
        self.http.begin()
    }

    /// A WebSocket.
    pub(crate) fn socket(&self) -> Alive {
        self.sockets.begin()
    }

    /// Whether the shutdown has begun.
    pub(crate) fn is_under_way(&self) -> bool {
        *self.stage.borrow() >= Stage::Stopping
    }

    /// The time limits.
    pub(crate) fn times(&self) -> ShutdownTimes {
        self.times
    }

    /// Stops letting clients in, or goes on with it.
    #[cfg(unix)]
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    /// Whether a hand-over goes on, or has ended well.
    #[cfg(unix)]
    pub(crate) fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Waits until a hand-over or a shutdown wants no further requests.
    pub(crate) fn wants_none(&self) -> impl Future<Output = ()> + Send + use<'_> {
        let mut paused = self.paused.subscribe();
        let stopping = self.reached(Stage::Stopping);
        async move {
            tokio::select! {
                _ = paused.wait_for(|paused| *paused) => {}
                () = stopping => {}
            }
        }
    }

    /// Waits until nothing is paused.
    pub(crate) async fn goes_on(&self) {
        let _ = self.paused.subscribe().wait_for(|paused| !*paused).await;
    }

    /// Notes that this is listened on, until the result is dropped.
    #[cfg(unix)]
    pub(crate) fn listens_on(&self, listener: BorrowedFd<'_>) -> Option<Arc<OwnedFd>> {
        let listener = Arc::new(listener.try_clone_to_owned().ok()?);
        let mut all = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(&listener));
        Some(listener)
    }

    /// What is listened on.
    #[cfg(unix)]
    pub(crate) fn listeners(&self) -> Vec<Arc<OwnedFd>> {
        let all = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }

    /// Waits until no HTTP connection is left.
    #[cfg(unix)]
    pub(crate) async fn http_ended(&self) {
        self.http.ended().await;
    }

    /// The runtime is another process's now.
    #[cfg(unix)]
    pub(crate) fn handed_over(&self) {
        self.stage.send_replace(Stage::Stopped);
    }

    /// Waits until the shutdown has reached this stage.
    pub(crate) fn reached(&self, stage: Stage) -> impl Future<Output = ()> + Send + use<'_> {
        let mut stages = self.stage.subscribe();
        async move {
            // The sender is in `self`, so the channel is open.
            let _ = stages.wait_for(|now| *now >= stage).await;
        }
    }

    /// The longest time that a shutdown takes.
    pub(crate) fn limit(&self) -> Duration {
        self.closing() + ROLL_BACK + CLIENTS + STORE
    }

    /// When the last socket is closed.
    fn closing(&self) -> Duration {
        self.times.grace.max(self.times.spread)
    }

    /// Shuts down, or waits for a shutdown that has begun. It goes on when this future is dropped.
    pub(crate) async fn run(self: &Arc<Self>, host: &Arc<TokioHost>) {
        self.begin(host);
        self.reached(Stage::Stopped).await;
    }

    /// Begins the shutdown, if it has not begun. May be called from any thread.
    pub(crate) fn begin(self: &Arc<Self>, host: &Arc<TokioHost>) {
        let begins = self.stage.send_if_modified(|stage| {
            let begins = *stage == Stage::Serving;
            if begins {
                *stage = Stage::Stopping;
            }
            begins
        });
        if begins {
            // This comes first. Even if handlers block all threads and the rest never runs, no room takes
            // another event. A hand-over has closed the registry, or sees the stage before it does.
            if self.hand_over.try_lock().is_ok() {
                host.registry().close();
            }
            let (shutdown, host) = (self.clone(), host.clone());
            host.tokio().clone().spawn(async move {
                let _turn = shutdown.hand_over.lock().await;
                if *shutdown.stage.borrow() != Stage::Stopped {
                    let rooms = host.registry().close();
                    shutdown.bring_down(&host, rooms).await;
                }
            });
        }
    }

    async fn bring_down(&self, host: &TokioHost, rooms: Vec<Arc<RoomCell>>) {
        #[cfg(unix)]
        crate::handover::notify::stopping();
        let ShutdownTimes { grace, spread } = self.times;
        info!(rooms = rooms.len(), ?grace, ?spread, "shutting down");
        host.alarms().stop();
        self.close_rooms(rooms).await;
        if timeout(CLIENTS, async { tokio::join!(self.http.ended(), self.sockets.ended()) })
            .await
            .is_err()
        {
            let (http, sockets) = (self.http.count(), self.sockets.count());
            warn!(http, sockets, "gave up clients that did not answer within {CLIENTS:?}");
        }
        host.registry().clear();
        host.close_store().await;
        host.parties().for_each(|party| party.meter().stopped());
        self.stage.send_replace(Stage::Stopped);
        debug!("shut down");
    }

    /// Closes the sockets of each room when the room is done, one after another over the spread, so that not
    /// all clients come back at once. No room waits for the handler of another room.
    async fn close_rooms(&self, rooms: Vec<Arc<RoomCell>>) {
        let begin = Instant::now();
        let connections: usize = rooms.iter().map(|room| room.connections().len()).sum();
        let mut pace = Pace {
            next: begin,
            step: self.times.spread / u32::try_from(connections).unwrap_or(u32::MAX).max(1),
            last: begin + self.closing(),
        };
        let grace = self.times.grace;
        let drain = |(n, room): (usize, Arc<RoomCell>)| async move {
            room.drain(grace).await;
            n
        };
        let mut draining: FuturesUnordered<_> =
            rooms.iter().cloned().enumerate().map(drain).collect();
        let mut running: Vec<Option<Arc<RoomCell>>> = rooms.into_iter().map(Some).collect();
        while let Ok(Some(n)) = timeout_at(begin + grace + ROLL_BACK, draining.next()).await {
            if let Some(room) = running[n].take() {
                pace.close(&room).await;
            }
        }
        for room in running.into_iter().flatten() {
            if let Some(handler) = room.running().map(Handler::name) {
                let (party, room) = (room.address().party(), room.address().room().as_str());
                warn!(
                    party,
                    room,
                    handler,
                    "a handler still runs after {grace:?}: closing the clients of its room anyway"
                );
            }
            pace.close(&room).await;
        }
    }
}

/// The times at which sockets are closed.
struct Pace {
    next: Instant,
    step: Duration,
    last: Instant,
}

impl Pace {
    /// Closes all clients of a room with 1012, which asks them to come back.
    async fn close(&mut self, room: &RoomCell) {
        let close = CloseReason::Restart.close();
        for socket in room.sockets() {
            sleep_until(self.next.min(self.last)).await;
            socket.close(close.clone());
            socket.flush();
            // A late close does not make the next ones faster.
            self.next = self.next.max(Instant::now()) + self.step;
        }
    }
}
