//! The loops that run the sockets of plain TCP.
//!
//! Each loop is one task of Tokio, with a set of sockets of its own for the operating system to watch (epoll
//! or kqueue). So a socket needs no task, no waker and no place in Tokio's own set. A loop takes all sockets
//! that are ready, gives what they say to the rooms, and only then lets other tasks run.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use mio::{Events, Token};
use slab::Slab;
use tokio::{io::unix::AsyncFd, runtime};
use tracing::{debug, error, warn};

use super::task::SocketTask;
use crate::{gather::gather, host::requeue, shutdown::Alive};

/// The most ready sockets that are taken at once.
const BATCH: usize = 1024;

/// After this time a loop lets other tasks run.
const SLICE: Duration = Duration::from_millis(2);

/// The time is looked at after this many sockets.
const LOOK: usize = 16;

/// With this many ready sockets at once, more of them are likely to be ready soon. Then the loop looks again
/// by itself: Tokio looks for it only when it has nothing else to do, or after 61 other tasks.
const BUSY: usize = 8;

/// Runs the sockets of plain TCP. Dropping it ends the loops, as soon as they have no sockets.
pub(crate) struct Reactor {
    loops: Vec<Arc<Inbox>>,
    next: AtomicUsize,
}

/// What a loop is told by others.
pub(super) struct Inbox(Mutex<Mail>);

#[derive(Default)]
struct Mail {
    opened: Vec<Socket>,
    /// The places of sockets that have something to do.
    woken: Vec<u32>,
    waker: Option<Waker>,
    is_over: bool,
}

/// A socket that a loop runs.
struct Socket {
    task: SocketTask,
    /// A shutdown waits until it is dropped.
    _alive: Alive,
}

impl Reactor {
    /// Starts the loops. If that is not possible, says so: then each socket gets a task of its own.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub(crate) fn start_or_warn() -> Option<Arc<Self>> {
        let started = Self::start();
        let warn = |error| warn!("sockets get a task each and need more memory: {error}");
        started.map_err(warn).ok()
    }

    /// Starts a loop for each thread of this Tokio runtime.
    ///
    /// # Errors
    ///
    /// When the operating system has no means for it.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let loops = runtime::Handle::current().metrics().num_workers();
        let start = |_| {
            let inbox = Arc::new(Inbox(Mutex::default()));
            #[allow(
                deprecated,
                reason = "its successor is unsafe code; a Poll keeps its descriptor"
            )]
            let poll = AsyncFd::with_interest(mio::Poll::new()?, tokio::io::Interest::READABLE)?;
            let looping = Loop {
                poll,
                events: Events::with_capacity(BATCH),
                inbox: inbox.clone(),
                sockets: Slab::new(),
                ready: VecDeque::new(),
                is_busy: false,
            };
            tokio::spawn(looping.run());
            Ok(inbox)
        };
        let loops = (0..loops).map(start).collect::<io::Result<_>>()?;
        Ok(Arc::new(Self { loops, next: AtomicUsize::new(0) }))
    }

    /// Gives a socket to a loop.
    pub(super) fn open(&self, task: SocketTask, alive: Alive) {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let inbox = &self.loops[next % self.loops.len()];
        task.link().home().settle(inbox);
        inbox.tell(|mail| mail.opened.push(Socket { task, _alive: alive }));
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.loops.iter().for_each(|inbox| inbox.tell(|mail| mail.is_over = true));
    }
}

impl Inbox {
    /// Has the socket at this place polled.
    pub(super) fn wake(&self, place: u32) {
        self.tell(|mail| mail.woken.push(place));
    }

    fn tell(&self, what: impl FnOnce(&mut Mail)) {
        let mut mail = self.mail();
        what(&mut mail);
        let waker = mail.waker.take();
        drop(mail);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Loop {
    poll: AsyncFd<mio::Poll>,
    events: Events,
    inbox: Arc<Inbox>,
    sockets: Slab<Slot>,
    /// The places of the sockets that are to be polled.
    ready: VecDeque<u32>,
    /// Many sockets were ready the last time.
    is_busy: bool,
}

impl Loop {
    async fn run(mut self) {
        loop {
            match std::future::poll_fn(|cx| self.poll_ready(cx)).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    return error!(
                        sockets = self.sockets.len(),
                        "the sockets cannot be watched any more: {error}"
                    );
                }
            }
            while gather(|| self.turn()) {
                tokio::task::yield_now().await;
                requeue().await;
                if let Err(error) = self.look() {
                    debug!("looking at the sockets failed: {error}");
                }
            }
        }
    }

    /// Ready when there is something to do. `false` when there never will be.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        {
            let mut mail = self.inbox.mail();
            if !mail.woken.is_empty() || !mail.opened.is_empty() {
                return Poll::Ready(Ok(true));
            }
            if mail.is_over && self.sockets.is_empty() {
                return Poll::Ready(Ok(false));
            }
            match &mut mail.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        loop {
            let mut guard = ready!(self.poll.poll_read_ready_mut(cx))?;
            let found = guard.get_inner_mut().poll(&mut self.events, Some(Duration::ZERO));
            let count = self.events.iter().count();
            if count < BATCH {
                // Everything that becomes ready from here on is told again.
                guard.clear_ready();
            }
            drop(guard);
            found.or_else(retry)?;
            if count > 0 {
                self.note();
                return Poll::Ready(Ok(true));
            }
        }
    }

    /// Looks for ready sockets without waiting.
    fn look(&mut self) -> io::Result<()> {
        let found = self.poll.get_mut().poll(&mut self.events, Some(Duration::ZERO));
        self.note();
        found.or_else(retry)
    }

    fn note(&mut self) {
        let mut count = 0;
        for event in &self.events {
            count += 1;
            let place = event.token().0;
            let Some(slot) = self.sockets.get_mut(place) else { continue };
            let hung_up = event.is_read_closed() || event.is_error();
            if event.is_readable() || hung_up {
                slot.socket.task.link().set_readable(hung_up);
            }
            slot.queue(place as u32, &mut self.ready);
        }
        self.is_busy = count >= BUSY;
    }

    /// Polls the sockets that are ready. Returns whether more are, or soon will be.
    fn turn(&mut self) -> bool {
        self.read_mail();
        let begun = Instant::now();
        let mut polled = 0;
        while let Some(place) = self.ready.pop_front() {
            let Some(slot) = self.sockets.get_mut(place as usize) else { continue };
            slot.is_queued = false;
            let waker = Waker::from(slot.socket.task.link().clone());
            if slot.socket.task.advance(&mut Context::from_waker(&waker)).is_ready() {
                self.sockets.remove(place as usize);
            }
            polled += 1;
            if polled % LOOK == 0 && begun.elapsed() >= SLICE {
                return true;
            }
        }
        self.is_busy
    }

    fn read_mail(&mut self) {
        let (opened, woken) = {
            let mut mail = self.inbox.mail();
            (std::mem::take(&mut mail.opened), std::mem::take(&mut mail.woken))
        };
        for socket in opened {
            let place = self.sockets.insert(Slot { socket, is_queued: false }) as u32;
            let Some(slot) = self.sockets.get_mut(place as usize) else { continue };
            let link = slot.socket.task.link();
            if let Err(error) = link.watch(self.poll.get_ref().registry(), Token(place as usize)) {
                error!("a socket cannot be watched, so it is closed: {error}");
                link.lost(partykit_core::runtime::CloseReason::Broken);
            }
            link.home().arrive(place);
            slot.queue(place, &mut self.ready);
        }
        for place in woken {
            let Some(slot) = self.sockets.get_mut(place as usize) else { continue };
            slot.socket.task.link().home().heard();
            slot.queue(place, &mut self.ready);
        }
    }
}

/// A socket at its place in a loop.
struct Slot {
    socket: Socket,
    /// It is to be polled.
    is_queued: bool,
}

impl Slot {
    fn queue(&mut self, place: u32, ready: &mut VecDeque<u32>) {
        if !std::mem::replace(&mut self.is_queued, true) {
            ready.push_back(place);
        }
    }
}

/// The loop of a socket.
#[derive(Default)]
pub(super) struct Home {
    inbox: OnceLock<Arc<Inbox>>,
    /// Its place in the loop, plus one. 0 before it has one.
    place: AtomicU32,
    /// The loop is told to poll the socket.
    is_told: AtomicBool,
}

impl Home {
    fn settle(&self, inbox: &Arc<Inbox>) {
        let _ = self.inbox.set(inbox.clone());
    }

    /// The loop polls the socket for the first time after this.
    fn arrive(&self, place: u32) {
        self.place.store(place + 1, Ordering::SeqCst);
        self.is_told.store(false, Ordering::SeqCst);
    }

    /// The loop polls the socket after this.
    fn heard(&self) {
        self.is_told.store(false, Ordering::SeqCst);
    }

    /// Has the loop poll the socket.
    pub(super) fn wake(&self) {
        if self.is_told.swap(true, Ordering::SeqCst) {
            return;
        }
        if let (Some(inbox), Some(place)) =
            (self.inbox.get(), self.place.load(Ordering::SeqCst).checked_sub(1))
        {
            inbox.wake(place);
        }
    }
}

/// A signal that came first is no failure.
fn retry(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}
