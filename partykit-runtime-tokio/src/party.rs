use std::{
    fmt,
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use partykit_core::{
    Account, Admit, Handler, Lobby, Options, Request, Result, RoomId, Server,
    runtime::{RoomCell, drive},
};
use tokio::runtime;

use crate::{
    metrics::Meter,
    socket::LinkSettings,
    watch::{self, Work},
};

/// A kind of server under its name. The server's type ends here: behind [`Kind`] nobody knows it.
pub(crate) struct Party {
    name: Arc<str>,
    options: Options,
    kind: Arc<dyn Kind>,
    link: Arc<LinkSettings>,
    past: Mutex<Past>,
}

/// What rooms did that are not in memory any more.
#[derive(Clone, Default)]
pub(crate) struct Past {
    pub(crate) account: Account,
    /// Which of them was awake for the longest time.
    pub(crate) longest_awake_in: Option<RoomId>,
}

impl Party {
    pub(crate) fn new(
        name: Arc<str>,
        options: Options,
        kind: Arc<dyn Kind>,
        link: Arc<LinkSettings>,
    ) -> Self {
        Self { name, options, kind, link, past: Mutex::default() }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// What its sockets are like.
    pub(crate) fn link(&self) -> &Arc<LinkSettings> {
        &self.link
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.link.meter
    }

    /// What its forgotten rooms did.
    pub(crate) fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a room until it sleeps.
    pub(crate) fn start(&self, on: &runtime::Handle, room: Arc<RoomCell>) {
        self.kind.start(on, room);
    }

    /// Counts what a before-hook rejected: there is no room that could.
    pub(crate) fn rejected(&self, handler: Handler) {
        self.past().account.rejected += 1;
        self.meter().rejected(handler);
    }

    pub(crate) fn before_connect(
        &self,
        request: Request,
        lobby: Lobby,
    ) -> BoxFuture<'static, Result<Admit>> {
        self.kind.before_connect(request, lobby)
    }

    pub(crate) fn before_request(
        &self,
        request: Request,
        lobby: Lobby,
    ) -> BoxFuture<'static, Result<Admit>> {
        self.kind.before_request(request, lobby)
    }
}

impl Past {
    /// Adds what one room did.
    pub(crate) fn add(&mut self, room: &RoomId, account: &Account) {
        if self.account.add(account) {
            self.longest_awake_in = Some(room.clone());
        }
    }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Party").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a runtime asks of a server's type.
pub(crate) trait Kind: Send + Sync {
    fn start(&self, on: &runtime::Handle, room: Arc<RoomCell>);
    fn before_connect(&self, request: Request, lobby: Lobby) -> BoxFuture<'static, Result<Admit>>;
    fn before_request(&self, request: Request, lobby: Lobby) -> BoxFuture<'static, Result<Admit>>;
}

/// Makes instances of `S` with `F`.
pub(crate) struct KindOf<S, F> {
    make: Arc<F>,
    server: PhantomData<fn() -> S>,
}

impl<S, F> KindOf<S, F> {
    pub(crate) fn new(make: F) -> Self {
        Self { make: Arc::new(make), server: PhantomData }
    }
}

impl<S: Server, F: Fn(&RoomId) -> S + Send + Sync + 'static> Kind for KindOf<S, F> {
    fn start(&self, on: &runtime::Handle, room: Arc<RoomCell>) {
        let make = self.make.clone();
        on.spawn(watch::over(Work::Room(room.clone()), drive::<S>(room, move |id| make(id))));
    }

    fn before_connect(&self, request: Request, lobby: Lobby) -> BoxFuture<'static, Result<Admit>> {
        Box::pin(async move { S::on_before_connect(request, &lobby).await })
    }

    fn before_request(&self, request: Request, lobby: Lobby) -> BoxFuture<'static, Result<Admit>> {
        Box::pin(async move { S::on_before_request(request, &lobby).await })
    }
}
