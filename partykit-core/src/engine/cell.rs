mod alarm;
mod doors;
mod drain;
mod operator;
mod owner;
mod resume;
mod space;
mod stats;

pub(crate) use doors::{Driving, InTurn};
pub use resume::Resumed;

use self::space::Space;

use std::{
    collections::HashMap,
    fmt,
    future::{Future, poll_fn},
    mem,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_channel::oneshot;
use futures_util::future::AbortHandle;

use super::{
    host::Host,
    wake_once::{Call, Guard, WakeOnce},
};
use crate::{
    AwakeReason, Close, Connection, ErrorId, Message, Options, Refusal, Request, Response,
    RoomAddress,
    connection::{Owner, key::ConnectionKey, outgoing::Outgoing, socket::Socket},
    machine::{Answer, Event, Fact, Machine},
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
/// use partykit_core::{Options, RoomAddress, RoomId, RoomPhase, runtime::{Host, RoomCell}};
///
/// fn open(host: Arc<dyn Host>, id: RoomId) -> Arc<RoomCell> {
///     let cell = RoomCell::new(RoomAddress::new("chat", id), Options::new(), host);
///     assert_eq!(cell.stats().phase, RoomPhase::Asleep);
///     cell
/// }
/// # let _ = open;
/// ```
pub struct RoomCell {
    address: RoomAddress,
    host: Arc<dyn Host>,
    state: WakeOnce<State>,
}

struct State {
    machine: Machine,
    next_connection: u64,
    /// The connections that wait for space in the mailbox. `None` if there are none.
    space: Option<Box<Space>>,
    /// Wakers of code that waits for the room's sleep, for a commit, or for outputs to leave.
    watchers: Vec<Waker>,
    /// The driver is sending outputs.
    flushing: bool,
    tasks: HashMap<u64, AbortHandle>,
}

impl RoomCell {
    /// Makes a room that sleeps and has no connection.
    pub fn new(address: RoomAddress, options: Options, host: Arc<dyn Host>) -> Arc<Self> {
        let state = State {
            machine: Machine::new(options, host.mailboxes(), host.elapsed()),
            next_connection: 0,
            space: None,
            watchers: Vec::new(),
            flushing: false,
            tasks: HashMap::new(),
        };
        Arc::new(Self { address, host, state: WakeOnce::new(state) })
    }

    /// Which room it is.
    pub fn address(&self) -> &RoomAddress {
        &self.address
    }

    /// The runtime.
    pub fn host(&self) -> &Arc<dyn Host> {
        &self.host
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
        id: &str,
        uri: &str,
        request: Request,
        socket: Arc<dyn Socket>,
    ) -> Result<ConnectionKey, Refusal> {
        let room: Weak<dyn Owner> = Arc::<Self>::downgrade(self);
        self.enter(|state, now| {
            state.next_connection += 1;
            let connection = Connection::new(state.next_connection, id, uri, room, socket);
            let (request, arrived) = (Box::new(request), now);
            let key = ConnectionKey(connection.key());
            let event = Event::Connect { connection, request, arrived };
            state.machine.push(now, event).map(|()| key).map_err(|(refusal, _)| refusal)
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
        &self,
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
    pub fn slow_client(&self) {
        self.lock().machine.slow_client();
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
    /// [`Refusal::Overloaded`], if a quarter of [`Options::max_held`] waits to leave the room already.
    pub fn broadcast(self: &Arc<Self>, message: Message, tag: Option<&str>) -> Result<(), Refusal> {
        let frame = Arc::new(Outgoing::new(message));
        match self.outside(|machine, _| machine.broadcast(tag, frame)) {
            None => Ok(()),
            Some(_) => Err(Refusal::Overloaded),
        }
    }

    /// The sockets of the listed connections, in connection order: to close them when the server goes down.
    pub fn sockets(&self) -> Vec<Arc<dyn Socket>> {
        let all = self.connections();
        all.iter().map(|connection| connection.socket().clone()).collect()
    }

    /// A handle of the connection with this key. `None` if it has ended.
    pub fn connection(self: &Arc<Self>, key: ConnectionKey) -> Option<Connection> {
        self.lock().machine.roster().get(key.0).cloned()
    }

    /// The id of a connection, for the log. `None` if it has ended.
    pub fn id_of(&self, key: ConnectionKey) -> Option<String> {
        self.lock().machine.roster().get(key.0).map(|connection| connection.id().to_owned())
    }

    /// The listed connections, in connection order.
    pub fn connections(&self) -> Arc<[Connection]> {
        self.lock().machine.roster().all()
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
                if passes(&state.machine.reasons()) {
                    state.watchers.push(cx.waker().clone());
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
        !state.is_driven() && state.machine.is_vacant()
    }

    pub(crate) fn push(self: &Arc<Self>, event: Event) -> Result<(), Refusal> {
        let pushed = self.enter(|state, now| state.machine.push(now, event));
        pushed.map_err(|(refusal, _)| refusal).inspect_err(|it| self.observe(Fact::Refused(*it)))
    }

    pub(crate) fn observe(&self, fact: Fact) {
        self.host.observe(&self.address, fact);
    }

    /// A fresh id for a failure.
    pub(crate) fn error_id(&self) -> ErrorId {
        let mut id = [0; 8];
        self.host.random(&mut id);
        ErrorId::from_bytes(id)
    }

    /// Wakes `waker` at the next change that code may wait for.
    pub(crate) fn watch(&self, waker: &Waker) {
        self.lock().watchers.push(waker.clone());
    }

    /// A number for a task that may have to wait for space in the mailbox.
    pub(crate) fn ticket(&self) -> u64 {
        self.lock().space.get_or_insert_default().ticket()
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
    pub(crate) fn poll_space_for(&self, who: u64, size: usize, cx: &mut Context<'_>) -> Poll<()> {
        let (poll, wakers) = self.lock().poll_space(who, size, cx);
        wakers.into_iter().for_each(Waker::wake);
        poll
    }

    /// See [`RoomCell::forgo_space`].
    pub(crate) fn forgo(self: &Arc<Self>, who: u64) {
        self.enter(|state, _| state.forgo(who));
    }

    pub(crate) fn add_task(&self, id: u64, handle: AbortHandle) {
        self.lock().tasks.insert(id, handle);
    }

    pub(crate) fn abort_task(&self, id: u64) {
        let handle = self.lock().tasks.remove(&id);
        if let Some(handle) = handle {
            handle.abort();
        }
    }

    pub(crate) fn task_ended(self: &Arc<Self>, id: u64, event: Event) {
        self.enter(|state, now| {
            state.tasks.remove(&id);
            // The last event of a task always enters.
            drop(state.machine.push(now, event));
        });
    }

    fn enter<R>(self: &Arc<Self>, act: impl FnOnce(&mut State, Duration) -> R) -> R {
        let now = self.host.elapsed();
        let ((result, wakers), call) = self.state.enter(|state| {
            let was_vacant = state.machine.is_vacant();
            let result = act(state, now);
            // A driver also reports that the room has become vacant. The caller must not do it, because it
            // may hold locks that the runtime needs to forget the room.
            let busy = !state.machine.is_at_rest() || (state.machine.is_vacant() && !was_vacant);
            ((result, state.wakers()), busy)
        });
        match call {
            Call::Nothing => {}
            Call::Start => self.host.start(self),
            Call::Wake(driver) => driver.wake(),
        }
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    fn lock(&self) -> Guard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// Gives something to the machine. It has to wait for its turn when the mailbox is full.
    fn push_in_turn<T>(
        &mut self,
        now: Duration,
        who: u64,
        it: T,
        push: impl FnOnce(&mut Machine, T) -> Result<(), (Refusal, T)>,
    ) -> Result<(), (Refusal, T)> {
        if let Some(space) = &mut self.space
            && space.has_to_queue(who, self.machine.intake())
            && self.machine.intake().takes_events(now)
        {
            return Err((Refusal::Overloaded, it));
        }
        let pushed = push(&mut self.machine, it);
        if !matches!(pushed, Err((Refusal::Overloaded, _))) {
            self.forgo(who);
        }
        pushed
    }

    /// Also returns the wakers of others that may go on.
    fn poll_space(
        &mut self,
        who: u64,
        size: usize,
        cx: &mut Context<'_>,
    ) -> (Poll<()>, Vec<Waker>) {
        let mut wakers = Vec::new();
        let space = self.space.get_or_insert_default();
        if !space.is_promised(who) {
            space.wait(who, size, cx.waker(), self.machine.intake());
            // There may be new space since the event was refused.
            space.wake(self.machine.intake(), &mut wakers);
        }
        let is_ready = space.is_promised(who);
        (if is_ready { Poll::Ready(()) } else { Poll::Pending }, wakers)
    }

    fn forgo(&mut self, who: u64) {
        if let Some(space) = &mut self.space {
            space.forget(who);
        }
    }

    /// The wakers of all that may go on now.
    fn wakers(&mut self) -> Vec<Waker> {
        let mut wakers = mem::take(&mut self.watchers);
        if let Some(space) = &mut self.space {
            space.wake(self.machine.intake(), &mut wakers);
        }
        wakers
    }
}

impl fmt::Debug for RoomCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomCell").field("address", &self.address).finish_non_exhaustive()
    }
}
