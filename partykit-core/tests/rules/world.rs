//! A runtime of several rooms, as small as one can be: what a runtime sees of a room, with a clock that
//! a test sets. Its parties run [`Script`](crate::script::Script)s; every room runs as far as it goes
//! before a method returns.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use futures_channel::oneshot;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use partykit_core::{
    Backend, CallError, Close, Connection, MemoryBackend, Message, Options, Refusal, Request,
    Response, Room, RoomAddress, RoomId, Timestamp,
    runtime::{
        Attachment, Chain, ConnectionKey, Host, Outgoing, Resumed, RoomCell, RoomKind, Socket,
        drive,
    },
};

use crate::script::{Stage, act, told, wish};

#[derive(Clone)]
pub(crate) struct World(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    stage: Stage,
    backend: Arc<dyn Backend>,
    me: Weak<Self>,
}

#[derive(Default)]
struct State {
    now: Duration,
    timers: Vec<(Duration, Waker)>,
    tasks: Vec<BoxFuture<'static, ()>>,
    parties: HashMap<String, Options>,
    rooms: HashMap<RoomAddress, Arc<RoomCell>>,
    crowded: bool,
    yields: usize,
}

impl World {
    pub(crate) fn new() -> Self {
        Self(Arc::new_cyclic(|me| Inner {
            state: Mutex::default(),
            stage: Stage::default(),
            backend: Arc::new(MemoryBackend::default()),
            me: me.clone(),
        }))
    }

    /// Registers a party.
    pub(crate) fn party(&self, name: &str, options: impl FnOnce(Options) -> Options) {
        self.0.state().parties.insert(name.to_owned(), options(Options::new()));
    }

    pub(crate) fn stage(&self) -> &Stage {
        &self.0.stage
    }

    pub(crate) fn room(&self, party: &str, id: &str) -> Arc<RoomCell> {
        self.0.room(&RoomAddress::new(party, RoomId::new(id).unwrap()))
    }

    pub(crate) fn connect(&self, party: &str, id: &str, name: &str) -> Client {
        let (cell, wire) = (self.room(party, id), Arc::new(Wire::default()));
        let uri = "http://test/parties/main/room";
        let key = cell
            .connect(name, uri, wish(&format!("tags=all,{name}s")), wire.clone())
            .expect("a connection");
        let connection = cell.connection(key).expect("it waits in the mailbox");
        self.run();
        Client { world: self.clone(), cell, key, connection, wire }
    }

    /// Has a room come back as on a platform that has dropped it, asleep, and kept its sockets with what was
    /// attached to them last. `closing` are those that the room had closed.
    pub(crate) fn resume(&self, clients: Vec<Client>, closing: &[&str]) -> Vec<Client> {
        let address = clients.first().expect("a client").cell.address().clone();
        let options = self.0.state().parties[address.party()].clone();
        let resumed = clients.iter().map(|client| Resumed {
            attachment: client.attachment(),
            socket: client.wire.clone(),
            closing: closing.contains(&client.connection.id()),
        });
        let kind = RoomKind::new(options, self.0.clone());
        let (cell, keys) = RoomCell::resume(address.clone(), kind, resumed.collect());
        self.0.state().rooms.insert(address, cell.clone());
        self.run();
        let back = |(client, key): (Client, _)| {
            let (cell, connection) = (cell.clone(), cell.connection(key).expect("it is back"));
            Client { cell, key, connection, ..client }
        };
        clients.into_iter().zip(keys).map(back).collect()
    }

    /// A request with a program; its answer, if there is one yet.
    pub(crate) fn request(
        &self,
        party: &str,
        id: &str,
        program: &str,
    ) -> Option<Result<Response, Refusal>> {
        let answer = self.room(party, id).request(told(program), Chain::new());
        self.run();
        answer.now_or_never()
    }

    /// There are very many rooms.
    pub(crate) fn set_crowded(&self) {
        self.0.state().crowded = true;
    }

    /// How often busy rooms have let others run.
    pub(crate) fn yields(&self) -> usize {
        self.0.state().yields
    }

    /// Runs real code as a request's handler; what it returned, if it has ended.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        party: &str,
        id: &str,
        code: impl for<'a> FnOnce(&'a Room) -> BoxFuture<'a, T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (request, answer) = act(code);
        drop(self.room(party, id).request(request, Chain::new()));
        self.run();
        answer
    }

    /// Runs something of the runtime's own beside the rooms.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Running {
        let over = Arc::new(AtomicBool::new(false));
        let flag = over.clone();
        let task = work.map(move |()| flag.store(true, Ordering::SeqCst));
        self.0.state().tasks.push(Box::pin(task));
        self.run();
        Running(over)
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.state().now
    }

    /// Sets the clock, and lets no timer ring.
    pub(crate) fn set(&self, now: Duration) {
        self.0.state().now = now;
    }

    /// Lets time pass, timer by timer.
    pub(crate) fn advance(&self, time: Duration) {
        let until = self.now() + time;
        loop {
            self.run();
            let mut state = self.0.state();
            let due = state.timers.iter().map(|(at, _)| *at).filter(|at| *at <= until).min();
            state.now = due.unwrap_or(until).max(state.now);
            let now = state.now;
            let rings: Vec<_> = state.timers.extract_if(.., |(at, _)| *at <= now).collect();
            drop(state);
            rings.into_iter().for_each(|(_, waker)| waker.wake());
            if due.is_none() {
                return self.run();
            }
        }
    }

    /// Runs everything as far as it goes.
    pub(crate) fn run(&self) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(flag.clone());
        let mut running = Vec::new();
        loop {
            let started = std::mem::take(&mut self.0.state().tasks);
            let woken = flag.0.swap(false, Ordering::SeqCst);
            if started.is_empty() && !woken {
                break;
            }
            running.extend(started);
            running.retain_mut(|task| {
                task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
            });
        }
        self.0.state().tasks = running;
    }
}

impl Inner {
    fn room(&self, address: &RoomAddress) -> Arc<RoomCell> {
        let known = self.state().rooms.get(address).cloned();
        known.unwrap_or_else(|| {
            let options = self.state().parties[address.party()].clone();
            let host: Arc<dyn Host> = self.me.upgrade().expect("the world lives");
            // Outside of the lock: a room asks its host for the time.
            let room = RoomCell::new(address.clone(), RoomKind::new(options, host));
            self.state().rooms.insert(address.clone(), room.clone());
            room
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Host for Inner {
    fn elapsed(&self) -> Duration {
        self.state().now
    }

    fn now(&self) -> Timestamp {
        Timestamp::default() + self.elapsed()
    }

    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }

    fn var(&self, _: &str) -> Option<String> {
        None
    }

    fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        let me = self.me.upgrade().expect("the world lives");
        Box::pin(std::future::poll_fn(move |cx| {
            let mut state = me.state();
            if state.now >= at {
                return std::task::Poll::Ready(());
            }
            state.timers.push((at, cx.waker().clone()));
            std::task::Poll::Pending
        }))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.state().tasks.push(task);
    }

    fn yield_now(&self) -> BoxFuture<'static, ()> {
        self.state().yields += 1;
        Box::pin(std::future::ready(()))
    }

    fn is_crowded(&self) -> bool {
        self.state().crowded
    }

    fn start(&self, room: &Arc<RoomCell>) {
        let stage = self.stage.clone();
        self.spawn(Box::pin(drive(room.clone(), move |_| stage.server())));
    }

    fn vacant(&self, _: &Arc<RoomCell>) {}

    fn call(
        &self,
        to: RoomAddress,
        request: Request,
        chain: Chain,
    ) -> BoxFuture<'static, Result<Response, CallError>> {
        let answer = self.room(&to).request(request, chain);
        Box::pin(async move { answer.await.map_err(|refusal| CallError::Refused(to, refusal)) })
    }

    fn tell(&self, to: RoomAddress, request: Request) {
        // Nobody says whether it arrived.
        self.room(&to).tell(request).unwrap_or_default();
    }

    fn knows_party(&self, name: &str) -> bool {
        self.state().parties.contains_key(name)
    }
}

pub(crate) struct Running(Arc<AtomicBool>);

impl Running {
    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A client's end of a connection.
pub(crate) struct Client {
    world: World,
    pub(crate) cell: Arc<RoomCell>,
    pub(crate) key: ConnectionKey,
    pub(crate) connection: Connection,
    wire: Arc<Wire>,
}

impl Client {
    pub(crate) fn say(&self, program: &str) {
        self.try_say(program).expect("the mailbox has space");
        self.world.run();
    }

    /// Says something and lets nothing happen yet.
    pub(crate) fn try_say(&self, program: &str) -> Result<(), Message> {
        self.cell.message(self.key, program.into())
    }

    pub(crate) fn end(&self, close: Close) {
        self.cell.closed(self.key, close);
        self.world.run();
    }

    /// From now on each message to it takes so much time.
    pub(crate) fn slow_down(&self, time: Duration) {
        *self.wire.slow.lock().unwrap() = Some((self.world.clone(), time));
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.wire.heard.lock().unwrap())
    }

    /// What a platform has kept with the socket.
    pub(crate) fn attachment(&self) -> Attachment {
        let kept = self.wire.attached.lock().unwrap().clone();
        Attachment::decode(&kept.expect("something is attached")).expect("an attachment")
    }
}

/// Notes what arrives at a client, a Close as its code, and keeps what is attached.
#[derive(Default)]
struct Wire {
    heard: Mutex<Vec<String>>,
    attached: Mutex<Option<Vec<u8>>>,
    /// How long each message takes, on whose clock.
    slow: Mutex<Option<(World, Duration)>>,
}

impl Socket for Wire {
    fn accept(&self) {}

    fn refuse(&self, close: Close) {
        self.close(close);
    }

    fn attach(&self, connection: &Connection) {
        *self.attached.lock().unwrap() = Some(Attachment::of(connection).encode());
    }

    fn send(&self, message: Outgoing<'_>) {
        if let Some((world, time)) = &*self.slow.lock().unwrap() {
            world.set(world.now() + *time);
        }
        let text = message.message().as_text().expect("text").to_owned();
        self.heard.lock().unwrap().push(text);
    }

    fn close(&self, close: Close) {
        self.heard.lock().unwrap().push(close.code().to_string());
    }

    fn flush(&self) {}
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}
