use std::{
    fmt,
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::de::DeserializeOwned;

use super::{
    TestRoomBuilder,
    client::{NotConnected, TestConnection, TestSocket},
    host::TestHost,
};
use crate::{
    Admission, Admit, AwakeReason, Body, Close, CloseCode, ErrorId, Handler, InvalidClose, List,
    Message, Options, Refusal, Request, Response, RoomAddress, RoomStats, Route, RoutePrefix,
    Server, Text, Timestamp,
    runtime::{Chain, Host, RoomCell, RoomKind, read_alarm},
    user::lobby::hook_answer,
};

/// One room of a server, for tests. See the [module](super).
///
/// Its methods return when nothing more can happen without time. Time passes only with
/// [`advance`](TestRoom::advance). To wait for a handler that waits for something outside, call
/// [`idle`](TestRoom::idle).
///
/// ```
/// use std::time::Duration;
/// use partykit_core::{Options, RoomPhase, Server, testing::TestRoom};
///
/// #[derive(Default)]
/// struct Silent;
/// impl Server for Silent {
///     fn options() -> Options {
///         Options::new().hibernate(true)
///     }
/// }
///
/// # futures_executor::block_on(async {
/// let room = TestRoom::<Silent>::new();
/// let _ada = room.connect("ada").await;
/// assert_eq!(room.stats().phase, RoomPhase::Awake);
/// room.advance(Duration::from_secs(10)).await;
/// assert_eq!(room.stats().phase, RoomPhase::Asleep);
/// # });
/// ```
pub struct TestRoom<S> {
    pub(super) host: Arc<TestHost>,
    pub(super) cell: Mutex<Arc<RoomCell>>,
    pub(super) options: Options,
    pub(super) hooks: bool,
    pub(super) address: RoomAddress,
    pub(super) server: PhantomData<fn() -> S>,
}

impl<S: Server + Default> TestRoom<S> {
    /// A new room of the party `main`, with an empty store in memory.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Builds a room with other settings.
    pub fn builder() -> TestRoomBuilder<S> {
        TestRoomBuilder::new(|_| S::default())
    }
}

impl<S: Server> TestRoom<S> {
    /// Connects a client with this id.
    ///
    /// `on_before_connect` runs first, as in a runtime, unless the room was built
    /// [without hooks](TestRoomBuilder::without_hooks).
    ///
    /// # Panics
    ///
    /// When the client is not let in, see [`try_connect`](TestRoom::try_connect). The message says why.
    pub async fn connect(&self, id: &str) -> TestConnection {
        let mut query = form_urlencoded::Serializer::for_suffix(String::from("?"), 1);
        let path = self.path(&query.append_pair("_pk", id).finish());
        self.connect_with(id, get(&path)).await
    }

    /// Connects a client with your own request: with a query, headers, or sub-protocols.
    ///
    /// ```
    /// use partykit_core::{
    ///     Admission, Admit, Lobby, OrReject, Reject, Request, RequestExt, Result, Server,
    ///     testing::TestRoom,
    /// };
    ///
    /// #[derive(Default)]
    /// struct Members;
    ///
    /// impl Server for Members {
    ///     async fn on_before_connect(request: Request, lobby: &Lobby) -> Result<Admit> {
    ///         let token = request.query("token").or_reject(Reject::unauthorized("log in"))?;
    ///         if lobby.var("TOKEN") != Some(token) {
    ///             return Err(Reject::forbidden("not you").into());
    ///         }
    ///         Ok(Admission::new(request).props("member")?.into())
    ///     }
    /// }
    ///
    /// # futures_executor::block_on(async {
    /// let room = TestRoom::<Members>::builder().var("TOKEN", "s3cret").build();
    /// let with = |query: &str| {
    ///     Request::builder().uri(format!("/parties/main/room?{query}")).body("".into()).unwrap()
    /// };
    /// assert!(room.connect_with("ada", with("token=s3cret")).await.is_open());
    /// let error = room.try_connect("eve", with("")).await.unwrap_err();
    /// assert_eq!(error.to_string(), "on_before_connect rejected: 401 Unauthorized, log in");
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// When the client is not let in, see [`try_connect`](TestRoom::try_connect). The message says why.
    pub async fn connect_with(&self, id: &str, request: Request) -> TestConnection {
        match self.try_connect(id, request).await {
            Ok(connection) => connection,
            Err(why) => panic!("{id} cannot connect to {}: {why}", self.address),
        }
    }

    /// Tries to connect a client.
    ///
    /// # Errors
    ///
    /// When `on_before_connect` does not let the client in, or when the room refuses it without running
    /// `on_connect`. A client whose `on_connect` fails is connected and then closed: see
    /// [`TestConnection::closed`] and [`TestRoom::errors`].
    pub async fn try_connect(
        &self,
        id: &str,
        request: Request,
    ) -> Result<TestConnection, NotConnected> {
        let uri = request.uri().clone();
        let offered = header_values(&request, "sec-websocket-protocol");
        let admission = self.admit(Handler::OnBeforeConnect, request).await?;
        let protocol = admission.chosen_protocol().map(ToOwned::to_owned);
        if let Some(chosen) = protocol.as_ref().filter(|chosen| !offered.contains(chosen)) {
            let error = format!("it chose the protocol {chosen:?}, which was not offered");
            return Err(NotConnected::Failed(error.into()));
        }
        let connection = self.begin(id, &uri, admission.into_request());
        self.settle().await;
        Ok(connection?.speaking(protocol))
    }

    /// Begins to connect a client, without its before-hook, and lets nothing happen yet.
    ///
    /// # Errors
    ///
    /// When the room refuses the client without running `on_connect`.
    pub fn begin_connect(&self, id: &str, request: Request) -> Result<TestConnection, Refusal> {
        let uri = request.uri().clone();
        self.begin(id, &uri, request)
    }

    fn begin(
        &self,
        id: &str,
        uri: &http::Uri,
        request: Request,
    ) -> Result<TestConnection, Refusal> {
        let (cell, socket) = (self.cell().clone(), Arc::new(TestSocket::default()));
        let uri = format!("http://test{uri}");
        let key = cell.connect(id, &*uri, request, socket.clone())?;
        let rate = self.options.message_rate;
        Ok(TestConnection::new(key, (id, &uri), socket, self.host.clone(), cell, rate))
    }

    /// Runs a before-hook, unless the room was built without hooks.
    async fn admit(&self, handler: Handler, request: Request) -> Result<Admission, NotConnected> {
        if !self.hooks {
            return Ok(Admission::new(request));
        }
        let lobby = self.host.lobby(&self.address);
        let answer = match handler {
            Handler::OnBeforeConnect => S::on_before_connect(request, &lobby).await,
            _ => S::on_before_request(request, &lobby).await,
        };
        match hook_answer(answer) {
            Ok(Admit::Continue(admission)) => Ok(admission),
            Ok(Admit::Respond(response)) => Err(NotConnected::Answered(response)),
            Ok(Admit::Reject(reject)) => Err(NotConnected::Rejected(reject)),
            Err(error) => {
                self.host.note_error(format!("{handler} failed: {error}"));
                Err(NotConnected::Failed(error))
            }
        }
    }

    /// The failures of handlers and hooks since the last call, such as `on_message failed: no such column`.
    /// Clients never see these texts. A [`Reject`](crate::Reject) is not a failure.
    ///
    /// ```
    /// use partykit_core::{Connection, Message, Result, Room, Server, testing::TestRoom};
    ///
    /// #[derive(Default)]
    /// struct Broken;
    ///
    /// impl Server for Broken {
    ///     async fn on_message(&mut self, _: &Room, _: &Connection, _: Message) -> Result {
    ///         Err("no such column".into())
    ///     }
    /// }
    ///
    /// # futures_executor::block_on(async {
    /// let room = TestRoom::<Broken>::new();
    /// room.connect("ada").await.send("hi").await;
    /// assert_eq!(room.errors(), ["on_message failed: no such column"]);
    /// # });
    /// ```
    pub fn errors(&self) -> Vec<String> {
        self.host.take_errors()
    }

    /// Sends an HTTP request. `on_before_request` runs first, unless the room was built
    /// [without hooks](TestRoomBuilder::without_hooks).
    ///
    /// # Errors
    ///
    /// When the hook fails, or the room gives no answer. [`TestRoom::errors`] says why.
    pub async fn request(&self, request: Request) -> Result<Response, Refusal> {
        self.ask(request).await.0
    }

    /// The answer to a request, and whether the hook or the handler has rejected it.
    pub(super) async fn ask(&self, request: Request) -> (Result<Response, Refusal>, bool) {
        let request = match self.admit(Handler::OnBeforeRequest, request).await {
            Ok(admission) => admission.into_request(),
            Err(NotConnected::Answered(response)) => return (Ok(response), false),
            Err(NotConnected::Rejected(reject)) => return (Ok(reject.response()), true),
            Err(_) => {
                let mut id = [0; 8];
                self.host.random(&mut id);
                return (Err(Refusal::Failed(ErrorId(u64::from_le_bytes(id)))), false);
            }
        };
        let before = self.stats().account.rejected;
        let answer = self.cell().request(request, Chain::new());
        self.settle().await;
        let answer = answer.await;
        (answer, self.stats().account.rejected > before)
    }

    /// Sends a GET request and returns the body as text.
    ///
    /// # Errors
    ///
    /// As for [`request`](TestRoom::request).
    ///
    /// # Panics
    ///
    /// When the body is a stream, or not text.
    pub async fn get(&self, path: &str) -> Result<String, Refusal> {
        let response = self.request(get(&self.path(path))).await?;
        let body = response.body().bytes().expect("the body is no stream");
        Ok(std::str::from_utf8(body).expect("the body is text").to_owned())
    }

    /// Sends a POST request with this body. `path` is what follows the room's address: empty, or with a `/`
    /// or `?` first.
    ///
    /// # Errors
    ///
    /// As for [`request`](TestRoom::request).
    pub async fn post(&self, path: &str, body: impl Into<Body>) -> Result<Response, Refusal> {
        let mut request = get(&self.path(path)).map(|_| body.into());
        *request.method_mut() = http::Method::POST;
        self.request(request).await
    }

    /// Sends a request without waiting for an answer, as another room does.
    ///
    /// # Errors
    ///
    /// When the room cannot take it.
    pub async fn tell(&self, request: Request) -> Result<(), Refusal> {
        self.cell().tell(request)?;
        self.settle().await;
        Ok(())
    }

    /// Sends a message to all connections from outside of the room, without waking it.
    pub async fn broadcast(&self, message: impl Into<Message>) {
        let said = self.cell().broadcast(message.into(), None);
        said.expect("a quarter of Options::max_held waits to leave the room");
        self.settle().await;
    }

    /// Deletes everything that the room stores, as an operator does with `Handle::erase`: the instance is
    /// dropped, and the connections stay.
    ///
    /// # Errors
    ///
    /// When it could not be stored.
    pub async fn erase(&self) -> Result<(), Refusal> {
        let erased = self.cell().erase();
        self.settle().await;
        erased.await
    }

    /// Closes all connections of an id, as an operator does with `Handle::disconnect`. Returns how many there
    /// were.
    ///
    /// # Errors
    ///
    /// When the code may not be sent or the reason is too long, see [`Close::new`].
    pub async fn disconnect(
        &self,
        id: &str,
        code: impl Into<CloseCode>,
        reason: impl Into<Text>,
    ) -> Result<usize, InvalidClose> {
        let close = Close::new(code, reason)?;
        let count = self.cell().disconnect_id(id, &close);
        self.settle().await;
        Ok(count)
    }

    /// Puts the room to sleep, as its idle time would.
    ///
    /// # Errors
    ///
    /// The reasons, when something keeps it awake.
    pub async fn hibernate(&self) -> Result<(), Vec<AwakeReason>> {
        let cell = self.cell().clone();
        self.settle().await;
        let reasons = cell.stats().reasons;
        if !reasons.is_empty() {
            return Err(reasons);
        }
        cell.hibernate().await?;
        self.settle().await;
        Ok(())
    }

    /// Ends the server's process: the instance, all connections and everything that is not durable are lost.
    /// At the next event, the room has only its storage.
    pub async fn crash(&self) {
        self.host.crash();
        let cell = RoomCell::new(
            self.address.clone(),
            RoomKind::new(self.options.clone(), self.dyn_host()),
        );
        *self.cell() = cell;
        self.settle().await;
    }

    /// Lets time pass. Timers and the room's alarm ring in their order, each at its time.
    pub async fn advance(&self, time: Duration) {
        let until = self.host.elapsed() + time;
        self.settle().await;
        while self.host.pass(until) {
            self.settle().await;
        }
        self.settle().await;
    }

    /// Lets everything happen that needs no time.
    pub async fn settle(&self) {
        loop {
            self.host.settle().await;
            let cell = self.cell().clone();
            if !self.host.ring(&cell).await {
                return;
            }
        }
    }

    /// Waits until no handler runs, also if a handler waits for something outside.
    pub async fn idle(&self) {
        loop {
            self.settle().await;
            let reasons = self.stats().reasons;
            if !reasons.iter().any(AwakeReason::is_passing) {
                return;
            }
            let mut polled = false;
            std::future::poll_fn(|cx| {
                self.cell().watch(cx.waker());
                match std::mem::replace(&mut polled, true) {
                    true => std::task::Poll::Ready(()),
                    false => std::task::Poll::Pending,
                }
            })
            .await;
        }
    }

    /// The state of the room.
    pub fn stats(&self) -> RoomStats {
        self.cell().stats()
    }

    /// The stored value of a key, as a new instance would read it.
    ///
    /// # Panics
    ///
    /// When the store fails or the value is not of this shape.
    pub async fn stored<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let rows = self.rows(List::new().start(key).limit(1)).await;
        let (_, value) = rows.into_iter().find(|(found, _)| found == key)?;
        Some(serde_json::from_slice(&value).expect("the value is of this shape"))
    }

    /// The stored rows, as a new instance would read them.
    ///
    /// # Panics
    ///
    /// When the store fails.
    pub async fn rows(&self, list: List) -> Vec<(String, Vec<u8>)> {
        let rows =
            list.stored(&*self.host.backend, &self.address).await.expect("the store answers");
        rows.into_iter().map(|(key, value)| (key, value.to_vec())).collect()
    }

    /// When the room's alarm rings next, as it is stored. `None` if there is no alarm, or if it is parked.
    ///
    /// # Panics
    ///
    /// When the store fails.
    pub async fn alarm(&self) -> Option<Timestamp> {
        let alarm =
            read_alarm(&*self.host.backend, &self.address).await.expect("the store answers");
        alarm.and_then(|alarm| alarm.rings)
    }

    /// The room's schedules, as they are stored, in the order of their names.
    ///
    /// ```
    /// use std::time::Duration;
    /// use partykit_core::{Result, Room, Run, Server, When, testing::TestRoom};
    ///
    /// #[derive(Default)]
    /// struct Clock;
    ///
    /// impl Server for Clock {
    ///     async fn on_start(&mut self, room: &Room) -> Result {
    ///         room.schedules().set("tick", When::Every(Duration::from_secs(60))).await?;
    ///         Ok(())
    ///     }
    ///
    ///     async fn on_schedule(&mut self, room: &Room, run: Run) -> Result {
    ///         room.broadcast(run.name).send();
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # futures_executor::block_on(async {
    /// let room = TestRoom::<Clock>::new();
    /// let ada = room.connect("ada").await;
    /// assert_eq!(room.schedules().await[0].name, "tick");
    /// room.advance(Duration::from_secs(150)).await;
    /// assert_eq!(ada.received(), ["tick".into(), "tick".into()]);
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// When the store fails.
    #[cfg(feature = "schedules")]
    pub async fn schedules(&self) -> Vec<crate::Schedule> {
        crate::runtime::read_schedules(&*self.host.backend, &self.address)
            .await
            .expect("the store answers")
    }

    /// When the store wakes the room next: for its alarm or for a schedule, the first of them.
    ///
    /// # Panics
    ///
    /// When the store fails.
    pub async fn wake_up(&self) -> Option<Timestamp> {
        let found = self.host.backend.wake_ups(None, usize::MAX).await.expect("the store answers");
        found.into_iter().find(|(_, room)| *room == self.address).map(|(at, _)| at)
    }

    /// What the room told other rooms since the last call.
    pub fn told(&self) -> Vec<(RoomAddress, Request)> {
        self.host.take_told()
    }

    /// What the room asked other rooms since the last call of this, one line for each call.
    pub(super) fn asked(&self) -> Vec<String> {
        self.host.take_asked()
    }

    /// The room's party and id.
    pub fn address(&self) -> &RoomAddress {
        &self.address
    }

    pub(crate) fn cell(&self) -> MutexGuard<'_, Arc<RoomCell>> {
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn path(&self, rest: &str) -> String {
        RoutePrefix::default().path(&Route::new(self.address.clone())) + rest
    }

    fn dyn_host(&self) -> Arc<dyn Host> {
        Arc::new(self.host.clone())
    }
}

impl<S: Server + Default> Default for TestRoom<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// Ends the server. Otherwise the room and its tasks would keep each other in memory.
impl<S> Drop for TestRoom<S> {
    fn drop(&mut self) {
        self.host.crash();
    }
}

impl<S> fmt::Debug for TestRoom<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestRoom").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The items of a header that is a list.
fn header_values(request: &Request, name: &str) -> Vec<String> {
    let values =
        request.headers().get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|value| value.trim().to_owned()).collect()
}

/// A GET request without a body.
pub(super) fn get(path: &str) -> Request {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = path.parse().expect("a path");
    request
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;

    use super::*;
    use crate::{ConnectionId, MemoryBackend};

    #[derive(Default)]
    struct Nothing;

    impl Server for Nothing {}

    #[test]
    fn nothing_is_left_of_a_room_that_was_awake() {
        let backend = Arc::new(MemoryBackend::default());
        let room = TestRoom::<Nothing>::builder().backend(backend.clone()).build();
        let client = block_on(room.connect("ada"));
        assert!(room.stats().account.wakes() > 0);
        drop((room, client));
        assert_eq!(Arc::strong_count(&backend), 1);
    }

    #[test]
    fn names_and_ids_may_be_what_they_like() {
        let room = TestRoom::<Nothing>::builder().room("a b/é").build();
        let client = block_on(room.connect("my id&x=%"));
        assert_eq!(client.id(), "my id&x=%");
        let uri: http::Uri = client.connection().uri().parse().unwrap();
        let id = ConnectionId::from_query(uri.query()).unwrap();
        assert_eq!(id.as_deref(), Some("my id&x=%"));
        let route = RoutePrefix::default().parse(uri.path()).unwrap().unwrap();
        assert_eq!(route.address(), room.address());
    }
}
