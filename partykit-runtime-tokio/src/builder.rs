mod alarms;
mod fallback;
mod front;
mod limits;

use std::{collections::HashMap, fmt, num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use partykit_core::{
    Backend, MemoryBackend, Options, Result, RoomAddress, RoomId, RoutePrefix, Server, Vars,
    runtime::{
        AppState,
        front::{AnyServer, Routes},
    },
};
use tokio::net::ToSocketAddrs;

use crate::{
    Listener, Runtime, ServeError,
    front::{Fallback, Front, Refusals},
    host::{Counts, TokioHost},
    limits::{AddressOf, AddressRate, ClientLimits, Clients, RoomRate, known},
    memory::{INBOUND, Memory},
    metrics::{self, Meter},
    party::Party,
    proxies::Proxies,
    registry::MAX_ROOMS,
    ringer,
    shutdown::{Shutdown, ShutdownTimes},
    socket::{LinkSettings, Outbound, OutboundLimits, Sweeper},
    store::{DiskBackend, Durability, StoreError, StoreOptions},
};
#[cfg(unix)]
use crate::{
    handover::{Held, remember_start},
    socket::Reactor,
};

/// What a [`Runtime`] is to run, and how.
///
/// ```no_run
/// use std::time::Duration;
/// use partykit_core::{Response, Result, RoomId, Server};
/// use partykit_runtime_tokio::Runtime;
///
/// #[derive(Default)]
/// struct Chat;
/// impl Server for Chat {}
///
/// struct Game {
///     seed: usize,
/// }
/// impl Server for Game {}
///
/// #[tokio::main]
/// async fn main() -> Result {
///     Runtime::builder()
///         .party::<Chat>("chat")
///         .party_with("game", |room: &RoomId| Game { seed: room.len() })
///         .allow_origins(["https://example.com", "http://localhost:5173"])
///         .var("GREETING", "hello")
///         .fallback(async |_request| Response::new("no room\n".into()))
///         .serve("0.0.0.0:1999")
///         .await
/// }
/// ```
#[must_use = "a builder does nothing until it serves"]
pub struct Builder {
    parties: Vec<Registration>,
    routes: Routes,
    vars: HashMap<String, String>,
    state: AppState,
    proxies: Proxies,
    fallback: Option<Fallback>,
    storage: Storage,
    durability: Durability,
    store: StoreOptions,
    keep_alive: Duration,
    shutdown: ShutdownTimes,
    clients: ClientLimits,
    outbound: OutboundLimits,
    max_rooms: usize,
    inbound: usize,
    new_rooms: Option<NonZeroU32>,
    park: Vec<RoomAddress>,
    messages: Option<Arc<AddressRate>>,
    client_address: AddressOf,
}

/// Where rooms store their rows.
enum Storage {
    Disk(PathBuf),
    Given(Arc<dyn Backend>),
}

struct Registration {
    name: Arc<str>,
    options: Options,
    server: AnyServer,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            parties: Vec::new(),
            routes: Routes::default(),
            vars: HashMap::new(),
            state: AppState::default(),
            proxies: Proxies::default(),
            fallback: None,
            storage: Storage::Disk(".partykit".into()),
            durability: Durability::default(),
            store: StoreOptions::default(),
            keep_alive: Duration::from_secs(30),
            shutdown: ShutdownTimes::default(),
            clients: ClientLimits::default(),
            outbound: OutboundLimits::default(),
            max_rooms: MAX_ROOMS,
            inbound: INBOUND,
            new_rooms: None,
            park: Vec::new(),
            messages: None,
            client_address: Arc::new(known),
        }
    }
}

impl Builder {
    /// Adds a party: its rooms are `/parties/<name>/<room>`, and each has an instance of `S`.
    ///
    /// # Panics
    ///
    /// When the name is empty, or another party has it.
    #[track_caller]
    pub fn party<S: Server + Default>(self, name: impl Into<Arc<str>>) -> Self {
        self.party_with(name, |_: &RoomId| S::default())
    }

    /// Adds a party whose instances are made by `make`. It is called each time a room needs an instance, so
    /// also after every sleep.
    ///
    /// # Panics
    ///
    /// When the name is empty, or another party has it.
    #[track_caller]
    pub fn party_with<S: Server>(
        self,
        name: impl Into<Arc<str>>,
        make: impl Fn(&RoomId) -> S + Send + Sync + 'static,
    ) -> Self {
        self.party_with_options(name, S::options(), make)
    }

    /// Like [`Builder::party_with`], with these options instead of [`Server::options`].
    ///
    /// # Panics
    ///
    /// When the name is empty, or another party has it.
    #[track_caller]
    pub fn party_with_options<S: Server>(
        mut self,
        name: impl Into<Arc<str>>,
        options: Options,
        make: impl Fn(&RoomId) -> S + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        assert!(!name.is_empty(), "a party needs a name");
        assert!(
            self.parties.iter().all(|party| party.name != name),
            "two parties are named {name:?}"
        );
        let server = AnyServer::new(move |id: &RoomId, ()| make(id));
        self.parties.push(Registration { name, options, server });
        self
    }

    /// The first part of the URLs of rooms: `/<prefix>/<party>/<room>`. Default: `parties`, as PartySocket
    /// uses it.
    pub fn prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.routes.set_prefix(None, RoutePrefix::new(prefix));
        self
    }

    /// Where the URLs of one party's rooms begin, in the place of the common prefix.
    ///
    /// # Panics
    ///
    /// [`build`](Builder::build) panics if there is no such party.
    pub fn party_prefix(mut self, party: impl AsRef<str>, prefix: impl AsRef<str>) -> Self {
        self.routes.set_prefix(Some(party.as_ref()), RoutePrefix::new(prefix));
        self
    }

    /// A value for [`Room::var`](partykit_core::Room::var) and
    /// [`Lobby::var`](partykit_core::Lobby::var). Names that are not set here are looked up among the
    /// environment variables of the process.
    pub fn var(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.vars.insert(name.into(), value.into());
        self
    }

    /// A value that hooks and handlers share, such as a pool of database connections: they read it with
    /// [`Lobby::state`](partykit_core::Lobby::state) and [`Room::state`](partykit_core::Room::state). There
    /// is one value of each type. A second one replaces the first.
    ///
    /// ```
    /// use partykit_core::{Admit, Lobby, Reject, Request, Result, Server};
    /// use partykit_runtime_tokio::Runtime;
    ///
    /// struct Closed(bool);
    ///
    /// #[derive(Default)]
    /// struct Chat;
    ///
    /// impl Server for Chat {
    ///     async fn on_before_connect(request: Request, lobby: &Lobby) -> Result<Admit> {
    ///         if lobby.state::<Closed>()?.0 {
    ///             return Err(Reject::forbidden("come back tomorrow").into());
    ///         }
    ///         Ok(request.into())
    ///     }
    /// }
    ///
    /// let builder = Runtime::builder().party::<Chat>("main").state(Closed(true));
    /// # let _ = builder;
    /// ```
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state = self.state.with(value);
        self
    }

    /// The directory of the store, see [`DiskBackend`]. One process at a time may use it. Default:
    /// `.partykit` in the directory where the process is started.
    ///
    /// [`build`](Builder::build) makes the directory. It fails if the directory cannot be made, written or
    /// locked, even if no party ever stores anything. If no party stores anything, call
    /// [`in_memory`](Builder::in_memory); then the server also runs in a read-only place.
    ///
    /// ```
    /// use partykit_core::{Body, Request, Response, Result, Room, Server};
    /// use partykit_runtime_tokio::Runtime;
    ///
    /// #[derive(Default)]
    /// struct Visits;
    ///
    /// impl Server for Visits {
    ///     async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
    ///         let visits = room.storage().get("visits").await?.unwrap_or(0) + 1;
    ///         room.storage().put("visits", &visits)?;
    ///         Ok(Response::new(format!("{visits}").into()))
    ///     }
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("data");
    /// for visits in ["1", "2"] {
    ///     let runtime = Runtime::builder().party::<Visits>("visits").data(&path).build()?;
    ///     let handle = runtime.handle();
    ///     let answer = handle.request("visits", "page", Request::new(Body::empty())).await?;
    ///     assert_eq!(answer.into_body().bytes().unwrap(), visits);
    ///     handle.shutdown().await;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn data(mut self, directory: impl Into<PathBuf>) -> Self {
        self.storage = Storage::Disk(directory.into());
        self
    }

    /// What a commit waits for before any client hears of it. Default: [`Durability::Durable`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How much memory the store may use, and how many files it holds open: see [`StoreOptions`]. Default:
    /// `StoreOptions::default()`.
    ///
    /// ```
    /// use partykit_runtime_tokio::{Runtime, store::StoreOptions};
    ///
    /// let large = StoreOptions::default().write_memory(256 << 20).cache(1 << 30);
    /// let builder = Runtime::builder().data("/var/lib/board").store(large);
    /// # drop(builder);
    /// ```
    pub fn store(mut self, options: StoreOptions) -> Self {
        self.store = options;
        self
    }

    /// Keeps all rows in memory. They are lost when the process ends, and no directory is made. For tests,
    /// and for parties that never write.
    pub fn in_memory(self) -> Self {
        self.backend(Arc::new(MemoryBackend::default()))
    }

    /// Stores rows in a backend of your own, instead of on disk or in memory.
    pub fn backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.storage = Storage::Given(backend);
        self
    }

    /// How long a client may be silent before it is pinged. If it is silent for the same time again, its
    /// connection ends with the code 1006. Default: 30 s. A ping wakes no room.
    pub fn keep_alive(mut self, silence: Duration) -> Self {
        self.keep_alive = silence;
        self
    }

    /// Makes the runtime, which does not serve yet. Its [handle](Runtime::handle) reaches the rooms already.
    ///
    /// Opens the [directory](Builder::data) of the store, or makes it.
    ///
    /// # Errors
    ///
    /// When that directory cannot be used: see [`StoreError`].
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime, or in one without time and IO. When a setting names a party that there is
    /// not.
    pub fn build(self) -> Result<Runtime, StoreError> {
        for name in self.routes.special_parties() {
            let is_known = self.parties.iter().any(|party| *party.name == *name);
            assert!(is_known, "a setting names the party {name:?}, which was not added");
        }
        #[cfg(unix)]
        let held = {
            remember_start();
            let store = match &self.storage {
                Storage::Given(_) => None,
                Storage::Disk(path) => {
                    Some(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
                }
            };
            let parties = self.parties.iter().map(|party| party.name.to_string());
            Held::find(parties.collect(), store.map(|path| path.display().to_string()))
        };
        let (backend, store): (Arc<dyn Backend>, _) = match self.storage {
            Storage::Given(backend) => (backend, None),
            Storage::Disk(path) => {
                // The process before has it open until it gives everything to this one.
                #[cfg(unix)]
                let open =
                    if held.is_some() { DiskBackend::closed } else { DiskBackend::open_with };
                #[cfg(not(unix))]
                let open = DiskBackend::open_with;
                let store = open(path, self.durability, self.store)?;
                (Arc::new(store.clone()), Some(store))
            }
        };
        let explicit = self.vars;
        let vars: Vars =
            Arc::new(move |name| explicit.get(name).cloned().or_else(|| environment(name)));
        let park = alarms::to_park(self.park, &vars);
        #[cfg(unix)]
        let (held, park) = match held {
            Some(held) => (Some(held.and_park(park)), Vec::new()),
            None => (None, park),
        };
        let sweeper = Sweeper::start();
        #[cfg(unix)]
        let reactor = Reactor::start_or_warn(&sweeper);
        let outbound = Outbound::new(self.outbound);
        let memory = Memory::new(self.inbound);
        let answers = Memory::new(self.outbound.all);
        metrics::describe();
        let parties = self.parties.into_iter().map(|Registration { name, options, server }| {
            let (sweeper, outbound) = (sweeper.clone(), outbound.clone());
            let (memory, meter) = (memory.clone(), Meter::new(&name));
            let mut link = LinkSettings::new(&options, sweeper, outbound, memory, meter);
            (link.keep_alive, link.pace.by_address) = (self.keep_alive, self.messages.clone());
            #[cfg(unix)]
            link.reactor.clone_from(&reactor);
            let link = Arc::new(link);
            (name.clone(), Party::new(name, options, server, link))
        });
        let app_state = self.state;
        let counts =
            Counts { app_state, outbound: outbound.clone(), mailboxes: memory.mailboxes().clone() };
        let parties = parties.collect();
        let host = TokioHost::new(parties, backend, store, vars, self.max_rooms, counts);
        #[cfg(unix)]
        let begins = held.is_none();
        #[cfg(not(unix))]
        let begins = true;
        if begins {
            ringer::start(&host, park);
        } else {
            // No room may run before all of it is this process's.
            host.registry().close();
        }
        let mut routes = self.routes;
        host.parties().for_each(|party| routes.add_party(party.name().clone()));
        Ok(Runtime::new(Front {
            host,
            routes,
            proxies: self.proxies,
            refusals: Refusals::default(),
            fallback: self.fallback,
            shutdown: Arc::new(Shutdown::new(self.shutdown)),
            clients: Clients::new(self.clients),
            room_rate: RoomRate::new(self.new_rooms, self.client_address),
            memory,
            answers,
            #[cfg(unix)]
            held: std::sync::Mutex::new(held),
        }))
    }

    /// Builds and serves, see [`Runtime::serve`].
    ///
    /// # Errors
    ///
    /// A [`ServeError`](crate::ServeError), in a box.
    pub async fn serve(self, addr: impl ToSocketAddrs + fmt::Debug) -> Result {
        self.build().map_err(ServeError::Store)?.serve(addr).await
    }

    /// Builds and serves, see [`Runtime::serve_on`].
    ///
    /// # Errors
    ///
    /// A [`StoreError`], before anything is served.
    pub async fn serve_on(self, listener: impl Listener) -> Result<(), StoreError> {
        self.build()?.serve_on(listener).await;
        Ok(())
    }

    /// Builds and serves, see [`Runtime::serve_unix`].
    ///
    /// # Errors
    ///
    /// A [`ServeError`](crate::ServeError), in a box.
    #[cfg(unix)]
    pub async fn serve_unix(self, path: impl AsRef<std::path::Path>) -> Result {
        self.build().map_err(ServeError::Store)?.serve_unix(path).await
    }

    /// Builds and serves, see [`Runtime::serve_tls`].
    ///
    /// # Errors
    ///
    /// A [`ServeError`](crate::ServeError), in a box.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub async fn serve_tls(
        self,
        addr: impl ToSocketAddrs + fmt::Debug,
        config: impl Into<Arc<crate::rustls::ServerConfig>>,
    ) -> Result {
        self.build().map_err(ServeError::Store)?.serve_tls(addr, config).await
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parties = self.parties.iter().map(|party| &party.name).collect::<Vec<_>>();
        f.debug_struct("Builder").field("parties", &parties).finish_non_exhaustive()
    }
}

/// An environment variable. `None` also for names that no variable can have.
fn environment(name: &str) -> Option<String> {
    let can_be = !name.is_empty() && !name.contains(['=', '\0']);
    can_be.then(|| std::env::var(name).ok()).flatten()
}
