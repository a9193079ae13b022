use std::{cell::Cell, fmt, rc::Rc, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use partykit_core::{
    Backend, CallError, Request, Response, RoomAddress, Timestamp,
    runtime::{AppState, Chain, Host, Origins, RoomCell},
};
use send_wrapper::SendWrapper;
use wasm_bindgen::JsValue;

use crate::{
    Env,
    backend::ObjectBackend,
    clock,
    entry::Entry,
    hosted::HostedRoom,
    js::{self, State},
    parties::{Parties, Party},
    stub::Stub,
    tasks::Tasks,
    timers::Timers,
};

/// What a room gets from the platform. There is one for each object.
pub(crate) struct ObjectHost {
    parties: &'static Parties,
    party: Arc<Party>,
    env: Env,
    ctx: SendWrapper<State>,
    backend: Arc<dyn Backend>,
    timers: SendWrapper<Rc<Timers>>,
    tasks: SendWrapper<Tasks>,
}

impl ObjectHost {
    pub(crate) fn new(
        parties: &'static Parties,
        party: Arc<Party>,
        env: Env,
        ctx: State,
        backend: ObjectBackend,
    ) -> Self {
        Self {
            parties,
            party,
            env,
            ctx: SendWrapper::new(ctx),
            backend: Arc::new(backend),
            timers: SendWrapper::new(Timers::new()),
            tasks: SendWrapper::new(Tasks::new()),
        }
    }

    pub(crate) fn timers(&self) -> &Rc<Timers> {
        &self.timers
    }

    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    /// Which pages may read answers.
    pub(crate) fn origins(&self) -> &Origins {
        self.parties.settings.routes.origins_of(self.party.name())
    }

    /// The entry for clients whose requests come straight to the object of this room.
    pub(crate) fn entry(&self, room: Rc<HostedRoom>) -> Entry {
        let (env, tasks) = (self.env.clone(), self.tasks().clone());
        Entry { parties: self.parties, env, tasks, room: Some(room), failed: Cell::default() }
    }

    /// The tasks of the object.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    fn to(&self, address: &RoomAddress) -> Option<(&'static Parties, Arc<Party>, Env)> {
        let party = self.parties.named(address.party())?;
        Some((self.parties, party.clone(), self.env.clone()))
    }
}

impl Host for ObjectHost {
    fn elapsed(&self) -> Duration {
        clock::elapsed()
    }

    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn random(&self, bytes: &mut [u8]) {
        js::fill_random(bytes);
    }

    fn var(&self, name: &str) -> Option<String> {
        self.env.var(name)
    }

    fn app_state(&self) -> Option<&AppState> {
        Some(&self.parties.settings.state)
    }

    /// The platform hands one event over at a time, and what it has is in the room before its driver runs.
    fn is_gathered(&self) -> bool {
        true
    }

    fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        Box::pin(SendWrapper::new(self.timers.sleep_until(at)))
    }

    /// The room's tasks keep the object in memory: see [`Object`](crate::Object).
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.tasks.spawn(task);
    }

    fn start(&self, room: &Arc<RoomCell>) {
        self.tasks.spawn(self.party.server().drive(room.clone(), self.env.clone()));
    }

    /// The cell lives as long as the object.
    fn vacant(&self, _: &Arc<RoomCell>) {}

    fn call(
        &self,
        to: RoomAddress,
        request: Request,
        chain: Chain,
    ) -> BoxFuture<'static, Result<Response, CallError>> {
        let Some((parties, party, env)) = self.to(&to) else {
            let unknown = CallError::UnknownParty(to.party().to_owned());
            return Box::pin(std::future::ready(Err(unknown)));
        };
        Box::pin(SendWrapper::new(async move {
            let (env, party) = (&env, &*party);
            let stub = Stub { env, settings: &parties.settings, party, address: &to };
            stub.call(request, &chain).await
        }))
    }

    fn tell(&self, to: RoomAddress, request: Request) {
        let Some((parties, party, env)) = self.to(&to) else { return };
        let told = self.tasks.promise(async move {
            let (env, party) = (&env, &*party);
            let stub = Stub { env, settings: &parties.settings, party, address: &to };
            stub.tell(request).await;
            Ok(JsValue::UNDEFINED)
        });
        // Otherwise the tell is lost if nothing else keeps the object in memory.
        let _ = self.ctx.wait_until(&told);
    }

    fn knows_party(&self, name: &str) -> bool {
        self.parties.named(name).is_some()
    }
}

impl fmt::Debug for ObjectHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectHost").field("party", &self.party).finish_non_exhaustive()
    }
}
