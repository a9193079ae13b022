//! The loops that run the sockets of plain TCP.
//!
//! Each loop has a set of sockets of its own for the operating system to watch (epoll or kqueue). So a socket
//! needs no task, no waker and no place in Tokio's own set. A loop takes all sockets that are ready, gives what
//! they say to the rooms, and only then lets other tasks run. A [`Runner`] runs it.

use std::{
    collections::{BTreeMap, VecDeque},
    io, mem, ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_util::task::waker_ref;
use mio::{Events, Token};
use slab::Slab;
use tokio::{io::unix::AsyncFd, runtime};
use tracing::{debug, error, warn};

use partykit_core::runtime::{CloseReason, ConnectionKey, RoomCell};

use super::{
    Sweeper,
    plain::Plain,
    runner::{Runner, SLICE, Slice},
    sweeper::Second,
    task::{News, SocketTask},
};
use crate::shutdown::Alive;

/// The most ready sockets that are taken at once.
const BATCH: usize = 1024;

/// An empty list with space for more sockets is not kept.
const SPARE: usize = 64;

/// The most loops. [`Home`] has eight bits for them.
const MOST: usize = 64;

/// This many connections of a room, one after another, are on the same loop. So a small room has one loop: it
/// handles everything that its clients said in one go, and writes to each of them once. A large room has all
/// loops.
pub(super) const TOGETHER: u64 = 512;

/// Runs the sockets of plain TCP. Dropping it ends the loops, as soon as they have no sockets.
pub(crate) struct Reactor {
    loops: Vec<Arc<Inbox>>,
}

/// A number that a connection shares with those that came to its room shortly before and after it.
pub(super) fn shared(room: &RoomCell, connection: ConnectionKey) -> usize {
    // Cells are at any multiple of some size, so the lower bits say little.
    let room = (ptr::from_ref(room).addr() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    (room + connection.order() / TOGETHER) as usize
}

/// What a loop is told by others.
pub(super) struct Inbox {
    mail: Mutex<Mail>,
    /// The set of sockets.
    registry: mio::Registry,
}

#[derive(Default)]
struct Mail {
    opened: Vec<Socket>,
    /// The places of sockets that have something to do.
    woken: Vec<u32>,
    /// The places of sockets whose time limits are to be looked at, and when. A socket may have more than
    /// one visit, and may be gone.
    visits: BTreeMap<Second, Vec<u32>>,
    /// The visits that are due.
    due: Vec<u32>,
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
    pub(crate) fn start_or_warn(sweeper: &Sweeper) -> Option<Arc<Self>> {
        let started = Self::start(sweeper);
        let warn = |error| warn!("sockets get a task each and need more memory: {error}");
        started.map_err(warn).ok()
    }

    /// Makes a loop for each thread of this Tokio runtime, and runs them.
    ///
    /// # Errors
    ///
    /// When the operating system has no means for it.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub(crate) fn start(sweeper: &Sweeper) -> io::Result<Arc<Self>> {
        let threads = runtime::Handle::current().metrics().num_workers();
        Self::start_with(sweeper, threads.min(MOST), SLICE)
    }

    /// Starts this many loops. After `slice` those that have more to do go to other threads.
    pub(super) fn start_with(
        sweeper: &Sweeper,
        count: usize,
        slice: Duration,
    ) -> io::Result<Arc<Self>> {
        let make = |number| {
            let poll = mio::Poll::new()?;
            let registry = poll.registry().try_clone()?;
            let inbox = Arc::new(Inbox { mail: Mutex::default(), registry });
            #[allow(
                deprecated,
                reason = "its successor is unsafe code; a Poll keeps its descriptor"
            )]
            let poll = AsyncFd::with_interest(poll, tokio::io::Interest::READABLE)?;
            Ok(Loop {
                poll,
                events: Events::with_capacity(BATCH),
                number,
                inbox,
                sockets: Slab::new(),
                spare: Vec::new(),
                ready: VecDeque::new(),
                is_active: false,
            })
        };
        let loops = (0..count).map(make).collect::<io::Result<Vec<_>>>()?;
        let reactor = Arc::new(Self { loops: loops.iter().map(|it| it.inbox.clone()).collect() });
        tokio::spawn(Runner::new(loops, slice).run());
        sweeper.watch(&reactor);
        Ok(reactor)
    }

    /// Gives a socket to a loop. The number is that of [`shared`].
    pub(super) fn open(&self, task: SocketTask, shared: usize, alive: Alive) {
        let inbox = &self.loops[shared % self.loops.len()];
        inbox.tell(|mail| mail.opened.push(Socket { task, _alive: alive }));
    }
}

impl Reactor {
    /// The loops, for the sweeper.
    pub(super) fn inboxes(&self) -> &[Arc<Inbox>] {
        &self.loops
    }

    /// Has the loop poll a socket. Does nothing before the loop knows the socket, because then it is polled
    /// anyway.
    pub(super) fn wake(&self, home: &Home) {
        if let Some((number, place)) = home.get()
            && home.call()
        {
            self.loops[number].tell(|mail| mail.woken.push(place));
        }
    }

    /// Has the loop hear when a socket takes more. Does nothing before the loop knows the socket.
    pub(super) fn watch_writes(&self, home: &Home, io: &mut Plain) -> io::Result<()> {
        let Some((number, place)) = home.get() else { return Ok(()) };
        io.watch_writes(&self.loops[number].registry, Token(place as usize))
    }

    /// Has the loop visit a socket. `false` if the loop does not know the socket yet.
    pub(super) fn schedule(&self, home: &Home, when: Second) -> bool {
        let Some((number, place)) = home.get() else { return false };
        self.loops[number].mail().visits.entry(when).or_default().push(place);
        true
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.loops.iter().for_each(|inbox| inbox.tell(|mail| mail.is_over = true));
    }
}

impl Inbox {
    /// Has those sockets visited whose time has come.
    pub(super) fn sweep(&self, now: Second) {
        let mut mail = self.mail();
        let later = mail.visits.split_off(&(now + 1));
        let due = mem::replace(&mut mail.visits, later);
        if due.is_empty() {
            return;
        }
        drop(mail);
        self.tell(|mail| mail.due.extend(due.into_values().flatten()));
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
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A set of sockets, and what is to be done for them.
pub(super) struct Loop {
    /// Its number among the loops.
    number: usize,
    poll: AsyncFd<mio::Poll>,
    events: Events,
    inbox: Arc<Inbox>,
    sockets: Slab<Socket>,
    /// An empty list for sockets that are opened.
    spare: Vec<Socket>,
    /// The places of the sockets that are to be polled.
    ready: VecDeque<usize>,
    /// The operating system had news the last time.
    is_active: bool,
}

impl Loop {
    /// Ready when there is something to do. `false` when there never will be.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        {
            let mut mail = self.inbox.mail();
            if !(mail.woken.is_empty() && mail.opened.is_empty() && mail.due.is_empty()) {
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

    /// Looks for ready sockets without waiting, if there were any the last time. Then more of them are likely to
    /// be ready soon. Tokio looks for it only when it has nothing else to do, or after 61 other tasks, and by way
    /// of its own set.
    pub(super) fn look(&mut self) {
        if !self.is_active {
            return;
        }
        let found = self.poll.get_mut().poll(&mut self.events, Some(Duration::ZERO));
        self.note();
        if let Err(error) = found.or_else(retry) {
            debug!("looking at the sockets failed: {error}");
        }
    }

    fn note(&mut self) {
        self.is_active = !self.events.is_empty();
        for event in &self.events {
            let place = event.token().0;
            let Some(socket) = self.sockets.get(place) else { continue };
            let hung_up = event.is_read_closed() || event.is_error();
            let news = News { readable: event.is_readable() || hung_up, hung_up };
            if socket.task.link().home().queue(news) {
                self.ready.push_back(place);
            }
        }
    }

    /// Whether sockets are left that have something to do.
    pub(super) fn has_more(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether sockets were woken since the turn began.
    pub(super) fn has_woken(&self) -> bool {
        !self.inbox.mail().woken.is_empty()
    }

    /// How many sockets it has.
    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Polls the sockets that have something to do, until the time is over.
    pub(super) fn turn(&mut self, slice: &mut Slice) {
        self.read_mail();
        while let Some(place) = self.ready.pop_front() {
            let Some(socket) = self.sockets.get(place) else { continue };
            let link = socket.task.link();
            let news = link.home().unqueue();
            let waker = waker_ref(link);
            if socket.task.advance(news, &mut Context::from_waker(&waker)).is_ready() {
                link.unwatch_if_left(self.poll.get_ref().registry());
                self.sockets.remove(place);
            }
            if slice.is_over_after_one_more() {
                return;
            }
        }
    }

    fn read_mail(&mut self) {
        let mut opened = mem::take(&mut self.spare);
        let (woken, due) = {
            let mut mail = self.inbox.mail();
            let Mail { opened: there, woken, due, .. } = &mut *mail;
            mem::swap(there, &mut opened);
            (mem::take(woken), mem::take(due))
        };
        for place in woken.into_iter().map(|place| place as usize) {
            let Some(socket) = self.sockets.get(place) else { continue };
            let home = socket.task.link().home();
            home.answer();
            if home.queue(News::default()) {
                self.ready.push_back(place);
            }
        }
        for socket in opened.drain(..) {
            let link = socket.task.link().clone();
            let place = self.sockets.insert(socket);
            link.home().settle(self.number, place);
            if let Err(error) = link.watch(self.poll.get_ref().registry(), Token(place)) {
                error!("a socket cannot be watched, so it is closed: {error}");
                link.lost(CloseReason::Broken);
            }
            link.arrive();
            if link.home().queue(News::default()) {
                self.ready.push_back(place);
            }
        }
        if opened.capacity() <= SPARE {
            self.spare = opened;
        }
        for place in due {
            if let Some(socket) = self.sockets.get(place as usize) {
                socket.task.link().visit();
            }
        }
    }
}

/// Where a socket is in the loops of a [`Reactor`].
#[derive(Default)]
pub(super) struct Home {
    /// The number of the loop in the upper eight bits, and the place in the loop, plus one. 0 before it is
    /// known.
    address: AtomicU32,
    /// Whether the socket's place is in the mail of the loop.
    is_called: AtomicBool,
    /// Whether the loop is going to poll the socket, and the [`News`] of it, as bits. Only the loop uses it, so it
    /// takes no locked instruction.
    news: AtomicU8,
}

impl Home {
    const PLACES: u32 = 1 << 24;

    fn settle(&self, number: usize, place: usize) {
        let (number, place) = (number as u32, place as u32 + 1);
        debug_assert!(place < Self::PLACES && number < 256);
        self.address.store(number * Self::PLACES + place, Ordering::SeqCst);
    }

    fn get(&self) -> Option<(usize, u32)> {
        let address = self.address.load(Ordering::SeqCst);
        let place = (address % Self::PLACES).checked_sub(1)?;
        Some(((address / Self::PLACES) as usize, place))
    }

    pub(super) fn is_known(&self) -> bool {
        self.address.load(Ordering::Relaxed) > 0
    }

    const QUEUED: u8 = 1;
    const READABLE: u8 = 2;
    const HUNG_UP: u8 = 4;

    /// For others than the loop. Whether the caller has to put the socket's place into the mail.
    fn call(&self) -> bool {
        !self.is_called.swap(true, Ordering::SeqCst)
    }

    /// For the loop: it has read that in its mail. A call after this comes into the mail again.
    fn answer(&self) {
        self.is_called.swap(false, Ordering::SeqCst);
    }

    /// For the loop: adds news. Whether the caller has to see to it that the socket is polled.
    fn queue(&self, news: News) -> bool {
        let readable = if news.readable { Self::READABLE } else { 0 };
        let hung_up = if news.hung_up { Self::HUNG_UP } else { 0 };
        let before = self.news.load(Ordering::Relaxed);
        self.news.store(before | Self::QUEUED | readable | hung_up, Ordering::Relaxed);
        before & Self::QUEUED == 0
    }

    /// For the loop: the socket is polled after this, with the news since the last time.
    fn unqueue(&self) -> News {
        let news = self.news.load(Ordering::Relaxed);
        self.news.store(0, Ordering::Relaxed);
        News { readable: news & Self::READABLE != 0, hung_up: news & Self::HUNG_UP != 0 }
    }
}

/// A signal that came first is no failure.
fn retry(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}
