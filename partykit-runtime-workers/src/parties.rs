use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use partykit_core::{
    Admit, Lobby, Options, Request, Result, RoomId, Server,
    runtime::{RoomCell, drive},
};

use crate::{Env, Settings};

/// All that one Worker serves. Made by [`export!`](crate::export).
#[derive(Debug)]
pub struct Parties {
    pub(crate) settings: Settings,
    parties: Vec<Arc<Party>>,
}

/// A kind of server under its name. The server's type is erased here.
pub struct Party {
    name: &'static str,
    /// The name of its Durable Object's class, and of the binding to it.
    class: &'static str,
    options: Options,
    kind: Box<dyn Kind>,
}

impl Parties {
    /// With these parties; the first of a name counts.
    pub fn new(settings: Settings, parties: Vec<Party>) -> Self {
        Self { settings, parties: parties.into_iter().map(Arc::new).collect() }
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Party>> {
        self.parties.iter().find(|party| party.name == name)
    }

    pub(crate) fn of_class(&self, class: &str) -> Option<&Arc<Party>> {
        self.parties.iter().find(|party| party.class == class)
    }
}

impl Party {
    /// A party whose instances are the default.
    pub fn new<S: Server + Default>(name: &'static str, class: &'static str) -> Self {
        Self::with(name, class, |_: &RoomId, _: &Env| S::default())
    }

    /// A party whose instances `make` makes.
    pub fn with<S: Server>(
        name: &'static str,
        class: &'static str,
        make: fn(&RoomId, &Env) -> S,
    ) -> Self {
        // When an idle room leaves memory is the platform's decision.
        let options = S::options().hibernate_after(Duration::MAX);
        Self { name, class, options, kind: Box::new(KindOf { make, server: PhantomData }) }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn class(&self) -> &'static str {
        self.class
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Runs a room until it sleeps.
    pub(crate) fn drive(&self, room: Arc<RoomCell>, env: Env) -> BoxFuture<'static, ()> {
        self.kind.drive(room, env)
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

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Party").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What the runtime asks of a server's type.
trait Kind: Send + Sync {
    fn drive(&self, room: Arc<RoomCell>, env: Env) -> BoxFuture<'static, ()>;
    fn before_connect(&self, request: Request, lobby: Lobby) -> BoxFuture<'static, Result<Admit>>;
    fn before_request(&self, request: Request, lobby: Lobby) -> BoxFuture<'static, Result<Admit>>;
}

struct KindOf<S> {
    make: fn(&RoomId, &Env) -> S,
    server: PhantomData<fn() -> S>,
}

impl<S: Server> Kind for KindOf<S> {
    fn drive(&self, room: Arc<RoomCell>, env: Env) -> BoxFuture<'static, ()> {
        let make = self.make;
        Box::pin(drive::<S>(room, move |id| make(id, &env)))
    }

    fn before_connect(&self, request: Request, lobby: Lobby) -> BoxFuture<'static, Result<Admit>> {
        Box::pin(async move { S::on_before_connect(request, &lobby).await })
    }

    fn before_request(&self, request: Request, lobby: Lobby) -> BoxFuture<'static, Result<Admit>> {
        Box::pin(async move { S::on_before_request(request, &lobby).await })
    }
}
