use std::{
    collections::HashMap,
    fmt,
    marker::PhantomData,
    sync::{Arc, Mutex},
};

use super::{
    TestRoom,
    host::{Callee, TestHost},
};
use crate::{
    Backend, CallError, MemoryBackend, Options, Request, Response, RoomAddress, RoomId, Server,
    runtime::{AppState, Chain, Host, RoomCell, RoomKind, drive},
};

/// Builds a [`TestRoom`] with other settings.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use partykit_core::{MemoryBackend, Server, testing::{FaultyBackend, TestRoom}};
///
/// #[derive(Default)]
/// struct Nothing;
/// impl Server for Nothing {}
///
/// let backend = FaultyBackend::new(MemoryBackend::default(), 1).fail_commits(0.1);
/// let room = TestRoom::<Nothing>::builder()
///     .room("lobby")
///     .backend(Arc::new(backend))
///     .var("TOKEN", "s3cret")
///     .options(|options| options.hibernate_after(Duration::from_secs(1)))
///     .build();
/// assert_eq!(room.address().to_string(), "main/lobby");
/// ```
pub struct TestRoomBuilder<S> {
    make: Box<dyn Fn(&RoomId) -> S + Send + Sync>,
    party: String,
    room: String,
    options: Options,
    backend: Arc<dyn Backend>,
    vars: HashMap<String, String>,
    app_state: AppState,
    hooks: bool,
    callee: Option<Callee>,
    seed: u64,
}

impl<S: Server> TestRoomBuilder<S> {
    /// A room whose instances are made by `make`.
    pub fn new(make: impl Fn(&RoomId) -> S + Send + Sync + 'static) -> Self {
        Self {
            make: Box::new(make),
            party: "main".to_owned(),
            room: "room".to_owned(),
            options: S::options(),
            backend: Arc::new(MemoryBackend::default()),
            vars: HashMap::new(),
            app_state: AppState::default(),
            hooks: true,
            callee: None,
            seed: 0,
        }
    }

    /// The party's name.
    #[must_use]
    pub fn party(self, name: &str) -> Self {
        Self { party: name.to_owned(), ..self }
    }

    /// The room's id.
    #[must_use]
    pub fn room(self, id: &str) -> Self {
        Self { room: id.to_owned(), ..self }
    }

    /// Changes the server's options.
    #[must_use]
    pub fn options(self, change: impl FnOnce(Options) -> Options) -> Self {
        Self { options: change(self.options), ..self }
    }

    /// The backend in which the room stores.
    #[must_use]
    pub fn backend(self, backend: Arc<dyn Backend>) -> Self {
        Self { backend, ..self }
    }

    /// A named value for [`Room::var`](crate::Room::var).
    #[must_use]
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A value for [`Lobby::state`](crate::Lobby::state) and [`Room::state`](crate::Room::state).
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(self, value: T) -> Self {
        Self { app_state: self.app_state.with(value), ..self }
    }

    /// Runs no before-hooks, for tests of handlers alone. Give props with
    /// [`Admission::props`](crate::Admission::props).
    #[must_use]
    pub fn without_hooks(self) -> Self {
        Self { hooks: false, ..self }
    }

    /// Answers the room's calls to other rooms.
    #[must_use]
    pub fn callee(
        self,
        answer: impl Fn(&RoomAddress, Request, Chain) -> Result<Response, CallError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { callee: Some(Box::new(answer)), ..self }
    }

    /// Sets the seed of [`Room::random`](crate::Room::random). The same seed gives the same bytes.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The room.
    ///
    /// # Panics
    ///
    /// When the room's id is not valid.
    pub fn build(self) -> TestRoom<S> {
        let make = Arc::new(self.make);
        let run = Box::new(move |cell| {
            let make = make.clone();
            Box::pin(drive(cell, move |id: &RoomId| make(id))) as _
        });
        let host =
            TestHost::new(run, self.callee, self.vars, self.app_state, self.backend, self.seed);
        let room = RoomId::new(self.room).expect("a room id");
        let address = RoomAddress::new(self.party, room);
        let dyn_host: Arc<dyn Host> = Arc::new(host.clone());
        let cell = RoomCell::new(address.clone(), RoomKind::new(self.options.clone(), dyn_host));
        let (options, hooks) = (self.options, self.hooks);
        TestRoom { host, cell: Mutex::new(cell), options, hooks, address, server: PhantomData }
    }
}

impl<S> fmt::Debug for TestRoomBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestRoomBuilder").field("room", &self.room).finish_non_exhaustive()
    }
}
