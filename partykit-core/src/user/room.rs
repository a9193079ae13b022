use std::{
    fmt,
    future::Future,
    panic::Location,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Broadcast, Clock, Connection, Emitter, JsonError, KeepAwake, Message, NoState, PartyRef,
    RoomAddress, RoomId, StartReason, Storage, Timestamp, WakeCause,
    engine::cell::{Driving, InTurn, RoomCell},
    machine::{TurnId, TurnMut},
    user::task,
    value::app_state::AppState,
};

/// A room as its handlers see it: its connections, its storage, and how to send.
///
/// It is borrowed for one handler and is not `Clone`, because everything that it does belongs to the
/// handler's transaction. For work that goes on after the handler, use [`Room::spawn`].
///
/// ```
/// use partykit_core::{Close, Connection, Message, Request, Result, Room, Server};
///
/// struct Lobby;
///
/// impl Server for Lobby {
///     async fn on_connect(&mut self, room: &Room, connection: &Connection, _: &Request) -> Result {
///         room.storage().put("last seen", connection.id())?;
///         room.broadcast(format!("{} of {} came in", connection.id(), room.count())).send();
///         Ok(())
///     }
/// }
/// ```
pub struct Room {
    cell: Arc<RoomCell>,
    turn: TurnId,
    in_turn: InTurn,
}

impl Room {
    /// The room for all handlers that a driver runs. No turn has begun.
    pub(crate) fn new(driving: &Driving) -> Self {
        Self { cell: Arc::clone(driving), turn: 0, in_turn: driving.begin_turn(0) }
    }

    /// From now on it is the room of this turn's handler.
    pub(crate) fn begin(&mut self, driving: &Driving, turn: TurnId) {
        (self.turn, self.in_turn) = (turn, driving.begin_turn(turn));
    }

    /// The room's id, as its URL has it after percent-decoding.
    pub fn id(&self) -> &str {
        self.cell.address().room()
    }

    /// The room's party and id.
    pub fn address(&self) -> &RoomAddress {
        self.cell.address()
    }

    /// Why this instance was made.
    pub fn start_reason(&self) -> StartReason {
        self.inside(|turn| turn.start_reason())
    }

    /// A snapshot of the listed connections, in the order in which they came: all open connections, and the
    /// one that is connecting. A connection that has ended or was closed is not listed.
    ///
    /// [`Room::count`] and [`Room::broadcast`] are cheaper, if you need only the number, or want to send to
    /// all.
    pub fn connections(&self) -> impl ExactSizeIterator<Item = Connection> + Send + use<> {
        Listed { all: self.inside(|turn| turn.roster().all()), next: 0 }
    }

    /// A snapshot of the listed connections with this tag, in the order in which they came.
    pub fn tagged(&self, tag: &str) -> impl ExactSizeIterator<Item = Connection> + Send + use<> {
        let tagged: Arc<[_]> = self.inside(|turn| turn.roster().tagged(tag).into());
        Listed { all: tagged, next: 0 }
    }

    /// The listed connection with this id. If a client has reconnected while its old socket is still here,
    /// the newest one. `None` if there is no such connection.
    pub fn connection(&self, id: &str) -> Option<Connection> {
        self.inside(|turn| turn.roster().by_id(id))
    }

    /// How many connections are listed.
    pub fn count(&self) -> usize {
        self.inside(|turn| turn.roster().count())
    }

    /// The states of all listed connections that have a state, in the order in which they came.
    ///
    /// ```
    /// use partykit_core::{Close, Connection, Message, Request, Result, Room, Server};
    ///
    /// #[derive(Default)]
    /// struct Presence;
    ///
    /// impl Server for Presence {
    ///     async fn on_connect(&mut self, room: &Room, ada: &Connection, _: &Request) -> Result {
    ///         ada.set_state(&ada.query("name"))?;
    ///         room.broadcast_json(&room.states::<String>()?)?.send();
    ///         Ok(())
    ///     }
    ///
    ///     async fn on_close(&mut self, room: &Room, _: &Connection, _: Close) -> Result {
    ///         room.broadcast_json(&room.states::<String>()?)?.send();
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// When a state is not of this shape.
    pub fn states<T: DeserializeOwned>(&self) -> Result<Vec<T>, JsonError> {
        self.connections().filter_map(|connection| connection.state().transpose()).collect()
    }

    /// Like [`Room::broadcast`], with a value as JSON in a text message.
    ///
    /// # Errors
    ///
    /// When `value` has no JSON form.
    pub fn broadcast_json<T: Serialize + ?Sized>(
        &self,
        value: &T,
    ) -> Result<Broadcast<'_>, JsonError> {
        Ok(self.broadcast(Message::from_json(value)?))
    }

    /// Prepares a message to all listed connections. Nothing happens before
    /// [`Broadcast::send`].
    pub fn broadcast(&self, message: impl Into<Message>) -> Broadcast<'_> {
        Broadcast::new(self, message.into())
    }

    /// The room's storage.
    pub fn storage(&self) -> Storage<'_> {
        Storage::new(self)
    }

    /// Another party, to call or tell one of its rooms.
    pub fn party(&self, name: impl Into<Arc<str>>) -> PartyRef<'_> {
        PartyRef::new(self, name.into())
    }

    /// Starts a task beside the room when this handler has committed. Its value comes back to
    /// [`on_task`](crate::Server::on_task).
    ///
    /// The task has no `Room` and no storage. It keeps the room awake. It is cancelled when a failure drops
    /// the instance, and is lost in a crash. `name` tells tasks apart.
    #[track_caller]
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) {
        self.spawn_task(name, Location::caller(), |_| work);
    }

    /// Like [`Room::spawn`], for a task with several values: each value that it gives to its [`Emitter`]
    /// comes to [`on_task`](crate::Server::on_task) as an event of its own, and then the value that it
    /// returns.
    #[track_caller]
    pub fn spawn_streaming<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(Emitter) -> F,
    ) {
        self.spawn_task(name, Location::caller(), work);
    }

    /// Keeps the room awake until the guard is dropped. The room's stats show `name` and the place of the
    /// call.
    #[track_caller]
    pub fn keep_awake(&self, name: &'static str) -> KeepAwake {
        let holder = (name, Location::caller());
        let now = self.cell.host().elapsed();
        let id = self.inside(|turn| turn.keep_awake(now, holder));
        KeepAwake::new(self.cell.clone(), id)
    }

    /// Ends when this time has passed, counted from now: what a task waits with, on every runtime.
    ///
    /// It is not stored: a crash forgets it. What has to happen all the same is an
    /// [alarm](Storage::set_alarm). A task that waits keeps the room awake.
    ///
    /// ```
    /// use std::time::Duration;
    /// use partykit_core::{Connection, Message, Result, Room, Server, TaskResult};
    ///
    /// struct Quiz;
    ///
    /// impl Server for Quiz {
    ///     async fn on_message(&mut self, room: &Room, _: &Connection, _: Message) -> Result {
    ///         room.spawn("time is up", room.timer(Duration::from_secs(5)));
    ///         Ok(())
    ///     }
    ///
    ///     async fn on_task(&mut self, room: &Room, _: TaskResult) -> Result {
    ///         room.broadcast("time is up").send();
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn timer(&self, time: Duration) -> impl Future<Output = ()> + Send + use<> {
        let host = self.cell.host();
        host.sleep_until(host.elapsed().saturating_add(time))
    }

    /// The time of the wall clock. Portable code has no other clock. Tests set it.
    pub fn now(&self) -> Timestamp {
        self.cell.host().now()
    }

    /// Waits for this time, or a little longer. The handler's own time limit goes on meanwhile (default: 30 s),
    /// and the room takes no other event: what shall happen much later is an
    /// [alarm](Storage::set_alarm_in), and what shall go on beside the room is a [task](Room::spawn) with a
    /// [`Clock`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use partykit_core::{Connection, Message, Result, Room, Server, testing::TestRoom};
    ///
    /// #[derive(Default)]
    /// struct Slow;
    ///
    /// impl Server for Slow {
    ///     async fn on_message(&mut self, room: &Room, sender: &Connection, word: Message) -> Result {
    ///         room.sleep(Duration::from_millis(200)).await;
    ///         sender.send(word);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # futures_executor::block_on(async {
    /// let room = TestRoom::<Slow>::new();
    /// let ada = room.connect("ada").await;
    /// ada.send("hello").await;
    /// assert_eq!(ada.received(), []);
    /// room.advance(Duration::from_millis(200)).await;
    /// assert_eq!(ada.received(), ["hello".into()]);
    /// # });
    /// ```
    pub fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + use<> {
        self.clock().sleep(time)
    }

    /// Time for tasks, which have no room.
    pub fn clock(&self) -> Clock {
        Clock::new(self.cell.host())
    }

    /// Random bytes, strong enough for ids that must not be guessed.
    ///
    /// ```
    /// # use partykit_core::Room;
    /// # fn id(room: &Room) -> u64 {
    /// u64::from_le_bytes(room.random())
    /// # }
    /// ```
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.cell.host().random(&mut bytes);
        bytes
    }

    /// A named value of the runtime, such as an environment variable or a secret.
    pub fn var(&self, name: &str) -> Option<String> {
        self.cell.host().var(name)
    }

    /// A value that the application gave to the runtime with `Builder::state`, for example a pool of database
    /// connections. All rooms share it.
    ///
    /// # Errors
    ///
    /// When the application gave no value of this type.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<&T, NoState> {
        static NONE: OnceLock<AppState> = OnceLock::new();
        let state = self.cell.host().app_state();
        state.unwrap_or_else(|| NONE.get_or_init(AppState::default)).get()
    }

    pub(crate) fn room_id(&self) -> &RoomId {
        self.cell.address().room()
    }

    pub(crate) fn wake_cause(&self) -> Option<WakeCause> {
        self.inside(|turn| turn.wake_cause())
    }

    pub(crate) fn cell(&self) -> &Arc<RoomCell> {
        &self.cell
    }

    /// Does something as a part of this handler.
    pub(crate) fn inside<R>(&self, act: impl FnOnce(&mut TurnMut<'_>) -> R) -> R {
        self.cell.inside(&self.in_turn, act)
    }

    pub(crate) fn turn(&self) -> TurnId {
        self.turn
    }

    fn spawn_task<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        name: &'static str,
        location: &'static Location<'static>,
        work: impl FnOnce(Emitter) -> F,
    ) {
        let (cell, now) = (&self.cell, self.cell.host().elapsed());
        let Some(id) = self.inside(|turn| turn.reserve_task(now, (name, location))) else { return };
        let work = work(Emitter::new(cell.clone(), id, name));
        let task = Box::pin(task::run(cell.clone(), id, name, work));
        self.inside(|turn| turn.spawn(id, task));
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("address", self.address()).finish_non_exhaustive()
    }
}

/// A snapshot of connections, given out one by one.
struct Listed {
    all: Arc<[Connection]>,
    next: usize,
}

impl Iterator for Listed {
    type Item = Connection;

    fn next(&mut self) -> Option<Connection> {
        let connection = self.all.get(self.next)?.clone();
        self.next += 1;
        Some(connection)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.all.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Listed {}
