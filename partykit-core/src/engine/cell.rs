mod alarm;
mod doors;
mod drain;
mod operator;
mod owner;
mod resume;
mod space;
mod state;
mod stats;
#[cfg(test)]
mod tests;

pub(crate) use doors::{Driving, InTurn, Outputs};
pub use resume::Resumed;

use self::{
    space::TASKS,
    state::{Awake, State},
};

use std::{
    fmt,
    future::{Future, poll_fn},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_channel::oneshot;
use futures_util::future::AbortHandle;

use super::{
    host::Host,
    kind::RoomKind,
    wake_once::{Call, Guard, WakeOnce},
};
use crate::{
    AwakeReason, Close, Connection, ErrorId, Message, Refusal, Request, Response, RoomAddress,
    connection::{Owner, key::ConnectionKey, outgoing::Shared, socket::Socket},
    machine::{Answer, Dormant, Event, Fact, Machine, Records},
    value::chain::Chain,
};

/// Everything of a room that is kept when its instance is dropped: its machine, and the wakers of waiting
/// code. A runtime keeps one for each room in memory, tells it what happens, and lets
/// [`drive`](crate::runtime::drive) run it.
///
/// All methods may be called from any thread, at any time. If there is something to do and no driver runs,
/// they call [`Host::start`].
///
/// ```
/// use std::sync::Arc;
/// use partykit_core::{RoomAddress, RoomId, RoomPhase, runtime::{RoomCell, RoomKind}};
///
/// fn open(kind: Arc<RoomKind>, id: RoomId) -> Arc<RoomCell> {
///     let cell = RoomCell::new(RoomAddress::new("chat", id), kind);
///     assert_eq!(cell.stats().phase, RoomPhase::Asleep);
///     cell
/// }
/// # let _ = open;
/// ```
pub struct RoomCell {
    address: RoomAddress,
    kind: Arc<RoomKind>,
    state: WakeOnce<State>,
}

impl RoomCell {
    /// Makes a room that sleeps and has no connection. Its [account](crate::Account) begins with its first event.
    pub fn new(address: RoomAddress, kind: Arc<RoomKind>) -> Arc<Self> {
        Self::with(address, kind, Dormant::new())
    }

    fn with(address: RoomAddress, kind: Arc<RoomKind>, dormant: Dormant) -> Arc<Self> {
        let state = WakeOnce::new(State::Asleep(dormant));
        Arc::new(Self { address, kind, state })
    }

    /// Which room it is.
    pub fn address(&self) -> &RoomAddress {
        &self.address
    }

    /// The runtime.
    pub fn host(&self) -> &Arc<dyn Host> {
        self.kind.host()
    }

    /// A client wants to connect. The socket is told how it ends: [`Socket::accept`] or [`Socket::refuse`].
    ///
    /// `id` has 1 to 256 bytes, `uri` is the address of the request.
    ///
    /// # Errors
    ///
    /// When the room refuses without running `on_connect`. Answer the handshake with [`Refusal::response`].
    pub fn connect(
        self: &Arc<Self>,
        id: impl Into<Box<str>>,
        uri: impl Into<Box<str>>,
        request: Request,
        socket: Arc<dyn Socket>,
    ) -> Result<ConnectionKey, Refusal> {
        self.enter(|state, now| {
            let roster = state.machine.roster();
            let (key, room) = (roster.next_key(), roster.room().clone());
            let connection = Connection::new(key, id, uri, room, socket);
            let (request, arrived) = (Box::new(request), now);
            let event = Event::connect(connection, request, arrived);
            let pushed = state.machine.push(now, event);
            pushed.map(|()| ConnectionKey(key)).map_err(|(refusal, _)| refusal)
        })
        .inspect_err(|refusal| self.observe(Fact::Refused(*refusal)))
    }

    /// A client has sent a message.
    ///
    /// # Errors
    ///
    /// The message comes back when the mailbox is full, when others wait for space in it, when too much of
    /// this connection waits already that others would find no space, or when the room [goes
    /// down](RoomCell::drain). Then read nothing more from this socket, and pass the message again when
    /// [`RoomCell::poll_space`] is ready. (A message that the room cannot take for another reason is dropped
    /// and counted.)
    pub fn message(
        self: &Arc<Self>,
        connection: ConnectionKey,
        message: Message,
    ) -> Result<(), Message> {
        let pushed = self.enter(|state, now| {
            let push = |machine: &mut Machine, it| machine.message(now, connection.0, it);
            state.push_in_turn(now, connection.0, message, push)
        });
        let Err((refusal, message)) = pushed else { return Ok(()) };
        self.observe(Fact::Refused(refusal));
        match refusal {
            Refusal::Overloaded | Refusal::ShuttingDown => Err(message),
            _ => Ok(()),
        }
    }

    /// Ready when the mailbox has space for a message that came back from [`RoomCell::message`]. Waiting
    /// callers are woken in their order, and only as many as there is space for.
    ///
    /// Never ready when the room shuts down.
    ///
    /// A woken caller has to pass its message, [give up](RoomCell::forgo_space), or be
    /// [closed](RoomCell::closed). Until then the space is kept for it.
    pub fn poll_space(
        self: &Arc<Self>,
        connection: ConnectionKey,
        message: &Message,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        self.poll_space_for(connection.0, Event::size_of_message(message), cx)
    }

    /// A connection no longer waits for space in the mailbox.
    pub fn forgo_space(self: &Arc<Self>, connection: ConnectionKey) {
        self.forgo(connection.0);
    }

    /// A socket has ended, from either side. May be called more than once.
    pub fn closed(self: &Arc<Self>, connection: ConnectionKey, close: Close) {
        self.enter(|state, now| {
            state.forgo(connection.0);
            state.machine.closed(now, connection.0, close);
        });
    }

    /// The runtime gives a client up, or is about to, because it reads too slowly.
    pub fn slow_client(self: &Arc<Self>) {
        self.enter(|state, _| state.machine.slow_client());
    }

    /// Closes the connection of a client that did something forbidden, after its earlier messages are
    /// handled. The room's answers leave first, then [`Socket::close`] is called.
    pub fn hang_up(self: &Arc<Self>, connection: ConnectionKey, close: Close) {
        self.enter(|state, now| state.machine.hang_up(now, connection.0, close));
    }

    /// An HTTP request, or a call from another room. It is in the mailbox when this returns. The future only
    /// waits for the answer.
    pub fn request(
        self: &Arc<Self>,
        request: Request,
        chain: Chain,
    ) -> impl Future<Output = Result<Response, Refusal>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let request = Box::new(request);
        let pushed = self.push(Event::Request { request, chain, reply: Some(reply) });
        async move {
            pushed?;
            match answer.await.unwrap_or(Err(Refusal::ShuttingDown))? {
                Answer::Response(response) => Ok(*response),
                Answer::Done | Answer::NotNow => Ok(Response::default()),
            }
        }
    }

    /// A request that wants no answer.
    ///
    /// # Errors
    ///
    /// When the room cannot take it.
    pub fn tell(self: &Arc<Self>, request: Request) -> Result<(), Refusal> {
        let request = Box::new(request);
        self.push(Event::Request { request, chain: Chain::new(), reply: None })
    }

    /// Sends a message to all connections, or to those with a tag, without waking the room.
    ///
    /// # Errors
    ///
    /// [`Refusal::Overloaded`], if a quarter of [`Options::max_held`](crate::Options::max_held) waits to leave the
    /// room already.
    pub fn broadcast(self: &Arc<Self>, message: Message, tag: Option<&str>) -> Result<(), Refusal> {
        let frame = Shared::new(message);
        match self.outside(|machine, _| machine.broadcast(tag, frame)) {
            None => Ok(()),
            Some(_) => Err(Refusal::Overloaded),
        }
    }

    /// The sockets of the listed connections, in connection order: to close them when the server goes down.
    pub fn sockets(&self) -> Vec<Arc<dyn Socket>> {
        self.with_records(|records| {
            records.open().filter_map(|record| record.socket().cloned()).collect()
        })
    }

    /// A handle of the connection with this key. `None` if it has ended.
    pub fn connection(self: &Arc<Self>, key: ConnectionKey) -> Option<Connection> {
        let room: Weak<dyn Owner> = Arc::<Self>::downgrade(self);
        self.with_records(|records| records.handle(key.0, &room))
    }

    /// The id of a connection, for the log. `None` if it has ended.
    pub fn id_of(&self, key: ConnectionKey) -> Option<String> {
        let id = |tags: &mut dyn Iterator<Item = &str>| tags.next().map(str::to_owned);
        self.with_records(|records| records.get(key.0).and_then(|record| record.tags(id)))
    }

    /// Handles of the listed connections, in connection order.
    pub fn connections(self: &Arc<Self>) -> Arc<[Connection]> {
        let room: Weak<dyn Owner> = Arc::<Self>::downgrade(self);
        match &mut *self.lock() {
            State::Asleep(dormant) => dormant
                .records()
                .with(self.address.room(), |records| records.handles(&room).collect()),
            State::Awake(awake) => awake.machine.roster().all(),
        }
    }

    /// Puts the room to sleep without waiting for its idle time. Waits for running handlers, waiting events
    /// and commits.
    ///
    /// # Errors
    ///
    /// The reasons, when something else keeps it awake.
    pub async fn hibernate(self: &Arc<Self>) -> Result<(), Vec<AwakeReason>> {
        let passes = |reasons: &[AwakeReason]| {
            !reasons.is_empty() && reasons.iter().all(AwakeReason::is_passing)
        };
        loop {
            poll_fn(|cx| {
                let mut state = self.lock();
                if let Some(awake) = state.awake()
                    && passes(&awake.machine.reasons())
                {
                    awake.watchers.push(cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            match self.enter(|state, now| state.machine.hibernate(now)) {
                // Something has happened meanwhile: try again.
                Err(reasons) if passes(&reasons) => {}
                result => return result,
            }
        }
    }

    /// Whether the room exists only in storage: it sleeps, and has no connection and no waiting event. A
    /// vacant cell may be dropped, if no other task can reach it.
    pub fn is_vacant(&self) -> bool {
        let state = self.lock();
        !state.is_driven() && state.is_vacant()
    }

    pub(crate) fn push(self: &Arc<Self>, event: Event) -> Result<(), Refusal> {
        let pushed = self.enter(|state, now| state.machine.push(now, event));
        pushed.map_err(|(refusal, _)| refusal).inspect_err(|it| self.observe(Fact::Refused(*it)))
    }

    pub(crate) fn observe(&self, fact: Fact) {
        self.host().observe(&self.address, fact);
    }

    /// A fresh id for a failure.
    pub(crate) fn error_id(&self) -> ErrorId {
        let mut id = [0; 8];
        self.host().random(&mut id);
        ErrorId::from_bytes(id)
    }

    /// Wakes `waker` at the next change that code may wait for.
    pub(crate) fn watch(self: &Arc<Self>, waker: &Waker) {
        self.awake(|awake| awake.watchers.push(waker.clone()));
    }

    /// A number for a task that may have to wait for space in the mailbox.
    pub(crate) fn ticket(&self) -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        TASKS | LAST.fetch_add(1, Ordering::Relaxed)
    }

    /// A value of a task arrives, see [`RoomCell::message`].
    pub(crate) fn task_says(
        self: &Arc<Self>,
        ticket: u64,
        event: Event,
    ) -> Result<(), (Refusal, Event)> {
        self.enter(|state, now| {
            state.push_in_turn(now, ticket, event, |machine, it| machine.push(now, it))
        })
    }

    /// [`RoomCell::poll_space`] for `size` bytes of any sender.
    pub(crate) fn poll_space_for(
        self: &Arc<Self>,
        who: u64,
        size: usize,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let (poll, wakers) = self.awake(|awake| awake.poll_space(who, size, cx));
        wakers.into_iter().for_each(Waker::wake);
        poll
    }

    /// See [`RoomCell::forgo_space`].
    pub(crate) fn forgo(self: &Arc<Self>, who: u64) {
        self.enter(|state, _| state.forgo(who));
    }

    pub(crate) fn add_task(self: &Arc<Self>, id: u64, handle: AbortHandle) {
        self.awake(|awake| drop(awake.tasks.get_or_insert_default().0.insert(id, handle)));
    }

    pub(crate) fn abort_task(&self, id: u64) {
        let handle = self.lock().awake().and_then(|awake| awake.tasks.as_mut()?.0.remove(&id));
        if let Some(handle) = handle {
            handle.abort();
        }
    }

    pub(crate) fn task_ended(self: &Arc<Self>, id: u64, event: Event) {
        self.enter(|state, now| {
            state.tasks.as_mut().and_then(|tasks| tasks.0.remove(&id));
            // The last event of a task always enters.
            drop(state.machine.push(now, event));
        });
    }

    fn enter<R>(self: &Arc<Self>, act: impl FnOnce(&mut Awake, Duration) -> R) -> R {
        let now = self.host().elapsed();
        let ((result, wakers), call) = self.state.enter(|state| {
            let was_vacant = state.is_vacant();
            let awake = state.wake(self, now);
            let result = act(awake, now);
            // A driver also reports that the room has become vacant. The caller must not do it, because it
            // may hold locks that the runtime needs to forget the room.
            let busy = !awake.machine.is_at_rest() || (awake.machine.is_vacant() && !was_vacant);
            let wakers = awake.wakers();
            if !busy {
                state.rest();
            }
            ((result, wakers), busy)
        });
        match call {
            Call::Nothing => {}
            Call::Start => self.host().start(self),
            Call::Wake(driver) => driver.wake(),
        }
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// Does something that gives the driver nothing to do.
    fn awake<R>(self: &Arc<Self>, act: impl FnOnce(&mut Awake) -> R) -> R {
        let now = self.host().elapsed();
        act(self.lock().wake(self, now))
    }

    /// Has `look` see the records of its connections.
    fn with_records<R>(&self, look: impl FnOnce(&mut Records) -> R) -> R {
        self.lock().with_records(self.address.room(), look)
    }

    fn lock(&self) -> Guard<'_, State> {
        self.state.lock()
    }
}

impl fmt::Debug for RoomCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomCell").field("address", &self.address).finish_non_exhaustive()
    }
}
