use std::{cell::Cell, pin::pin, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{Method, request::Parts, uri::Scheme};
use js_sys::Promise;
use partykit_core::{
    BoxError, Close, Options, Refusal, Request, Response, Route, Vars,
    runtime::{
        AppState, Chain, Chosen,
        front::{
            self, Asked, Connecting, Decision, Handshake, Refused, Surroundings, Visit, Welcome,
            Wish,
        },
    },
};
use send_wrapper::SendWrapper;
use tracing::debug;
use wasm_bindgen::{JsCast, JsValue};

use crate::{
    Env, clock, convert,
    envelope::{self, Envelope},
    hosted::HostedRoom,
    js::{self, JsRequest, JsResponse, WebSocketPair},
    log,
    parties::{Parties, Party},
    stub::{Stub, StubError},
    tasks::Tasks,
    timers::pause,
};

/// Answers a request from outside. The `fetch` handler of [`export!`](crate::export) calls this. `failed` is how
/// the room's object has failed, if it was asked by the short way.
pub fn fetch(
    parties: fn(&Env) -> &'static Parties,
    request: JsValue,
    env: JsValue,
    failed: JsValue,
) -> Promise {
    clock::arrive();
    let env = Env::new(env);
    log::init(&env);
    let parties = parties(&env);
    let tasks = Tasks::new();
    let _call = tasks.enter();
    let failed = (!failed.is_undefined()).then_some(failed);
    let entry = Entry { parties, env, tasks: tasks.clone(), room: None, failed: Cell::new(failed) };
    let response = tasks.promise(async move {
        let request: JsRequest = request.unchecked_into();
        let response = match js::head(&request) {
            Ok(head) => entry.answer(request, &head).await,
            Err(error) => Err(convert::thrown(error)),
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                convert::to_js(&entry.tasks, entry.failed(&error.to_string()).into_response())?
            }
        };
        Ok(response.into())
    });
    tasks.run();
    response
}

/// Where requests come in. [`partykit_core::runtime::front`] decides which room a request is for. Many
/// entries may run at the same time, on different machines.
///
/// A request like one before it comes to the room's object by a short way: JavaScript has found the object. Then
/// the entry is there, with the room.
pub(crate) struct Entry {
    pub(crate) parties: &'static Parties,
    pub(crate) env: Env,
    /// Of this one request, or of the room.
    pub(crate) tasks: Tasks,
    /// The room, if the entry is at its object.
    pub(crate) room: Option<Rc<HostedRoom>>,
    /// How the room's object has failed, if it was asked before.
    pub(crate) failed: Cell<Option<JsValue>>,
}

/// An answer, of ours or of a room.
enum Answer {
    Ours(Response),
    Rooms(JsResponse),
}

impl Entry {
    /// Answers a client; `head` is the text of the request's head.
    pub(crate) async fn answer(
        &self,
        request: JsRequest,
        head: &str,
    ) -> Result<JsResponse, BoxError> {
        let Ok(head) = convert::head(head) else {
            return self.to_js(Refused::BadUrl.into_response());
        };
        let body = request.body().map_err(convert::thrown)?;
        let routes = &self.parties.settings.routes;
        let is_encrypted = head.uri.scheme() == Some(&Scheme::HTTPS);
        let host = head.uri.authority();
        let asked = Asked { head: &head, host, peer_host: host, is_encrypted };
        let (decision, visit) = routes.find(&asked, |name| self.parties.named(name));
        let answer = match decision {
            // Another Worker with a binding to this class has sent it.
            _ if !self.is_for_room(&visit) => Err(Refused::NotByEntry),
            Decision::Respond(response) => Ok(Answer::Ours(response)),
            Decision::Refuse(refused) => Err(refused),
            Decision::Fallback => self.fall_back(head, body).await.map(Answer::Ours),
            Decision::Room { party, route, wish: Wish::Connect(handshake) } => {
                self.connect(party, &route, &visit, handshake, head, &request).await
            }
            Decision::Room { party, route, wish: Wish::Request } => {
                self.request(party, &route, &visit, head, body, &request).await
            }
        };
        let mut response = match answer {
            // Passed on unchanged: the room has set all headers for this client.
            Ok(Answer::Rooms(response)) => return Ok(response),
            Ok(Answer::Ours(response)) => response,
            Err(refused) => {
                debug!(status = refused.status().as_u16(), "refused a request: {refused}");
                refused.into_response()
            }
        };
        routes.stamp(&visit, response.headers_mut());
        self.to_js(response)
    }

    async fn connect(
        &self,
        party: &Party,
        route: &Route,
        visit: &Visit,
        handshake: Handshake,
        head: Parts,
        from: &JsRequest,
    ) -> Result<Answer, Refused> {
        let welcome = party.server().before_connect(&self.hooks(), route, handshake, head).await?;
        let Connecting { id, uri, request, protocol } = match welcome {
            Welcome::In(connecting) => connecting,
            Welcome::Away(close, protocol) => {
                let protocol = protocol.as_ref().and_then(|protocol| protocol.to_str().ok());
                let turned_away = turn_away(&close, protocol);
                return turned_away
                    .map(Answer::Rooms)
                    .map_err(|error| self.failed(&js::describe(&error)));
            }
        };
        let protocol = protocol.and_then(|protocol| protocol.to_str().ok().map(ToOwned::to_owned));
        if let Some(room) = &self.room {
            let connected = room.connect(request, id.as_str(), &uri, protocol.as_deref()).await;
            let connected = connected.map_err(|error| self.failed(&error.to_string()))?;
            return connected.map(Answer::Rooms).map_err(Into::into);
        }
        if party.server().admits_connects() {
            self.learn(from, party);
        }
        let id = id.as_str().to_owned();
        let kind = envelope::Asked::Connect { id, address: uri, protocol };
        let envelope = Envelope::new(kind, &request, &Chain::new()).for_page_of(visit.visitor());
        self.send(party, route, &envelope, &Bytes::new()).await
    }

    /// Passes a plain request to a room.
    async fn request(
        &self,
        party: &Party,
        route: &Route,
        visit: &Visit,
        head: Parts,
        body: JsValue,
        from: &JsRequest,
    ) -> Result<Answer, Refused> {
        let body = convert::read(body, Chosen::of(party.options()).max_request_body).await?;
        let request = Request::from_parts(head, body.into());
        let request = party.server().before_request(&self.hooks(), route, request).await?;
        if let Some(room) = &self.room {
            return Ok(Answer::Ours(room.request(request, Chain::new()).await?));
        }
        if party.server().admits_requests() {
            self.learn(from, party);
        }
        let envelope = Envelope::new(envelope::Asked::Request, &request, &Chain::new());
        let envelope = envelope.for_page_of(visit.visitor());
        let body = convert::collect(request.into_body()).await;
        let body = body.map_err(|error| self.failed(&error.to_string()))?;
        self.send(party, route, &envelope, &body).await
    }

    async fn send(
        &self,
        party: &Party,
        route: &Route,
        envelope: &Envelope,
        body: &Bytes,
    ) -> Result<Answer, Refused> {
        let settings = &self.parties.settings;
        let stub = Stub { env: &self.env, settings, party, address: route.address() };
        let sent = stub.send(envelope, body, self.failed.take()).await;
        sent.map(Answer::Rooms).map_err(|error| match error {
            StubError::Overloaded(_) => Refusal::Overloaded.into(),
            StubError::Failed(detail) => self.failed(&detail),
        })
    }

    /// Lets requests like this one take the short way. The hook of this party lets them all in.
    fn learn(&self, request: &JsRequest, party: &Party) {
        let settings = &self.parties.settings;
        let Some(beginning) = settings.routes.beginning(party.name()) else { return };
        let (jurisdiction, hint) =
            (settings.jurisdiction.as_deref(), settings.location_hint.as_deref());
        // If it fails, the next one takes the long way.
        drop(js::learn(request, &beginning, party.class(), jurisdiction, hint));
    }

    /// Whether the room that a client asks for is here, if this is at a room.
    fn is_for_room(&self, visit: &Visit) -> bool {
        self.room.as_ref().is_none_or(|room| visit.address() == Some(room.address()))
    }

    /// Passes a request that is not for a room to the fallback.
    async fn fall_back(&self, head: Parts, body: JsValue) -> Result<Response, Refused> {
        let fallback = self.parties.settings.fallback.as_ref().ok_or(Refused::NotFound)?;
        let is_head = head.method == Method::HEAD;
        let body = convert::read(body, Chosen::of(&Options::default()).max_request_body).await?;
        let request = Request::from_parts(head, body.into());
        let env = self.env.clone();
        let work = Box::pin(async move { fallback(request, env).await });
        front::fall_back(&self.env, is_head, work).await
    }

    fn hooks(&self) -> Hooks<'_> {
        Hooks { env: &self.env, state: &self.parties.settings.state }
    }

    fn failed(&self, error: &str) -> Refused {
        Refused::failed(&self.env, "a request failed", Some(error))
    }

    fn to_js(&self, response: Response) -> Result<JsResponse, BoxError> {
        convert::to_js(&self.tasks, response).map_err(convert::thrown)
    }
}

/// Opens a WebSocket, to close it at once.
fn turn_away(close: &Close, protocol: Option<&str>) -> Result<JsResponse, JsValue> {
    let pair = WebSocketPair::new()?;
    let server = pair.server()?;
    server.accept()?;
    server.close(close.code().into(), close.reason())?;
    js::switching(&pair.client()?, protocol)
}

/// What before-hooks see.
struct Hooks<'a> {
    env: &'a Env,
    state: &'a AppState,
}

impl Surroundings for Hooks<'_> {
    fn random(&self, bytes: &mut [u8]) {
        self.env.random(bytes);
    }

    fn vars(&self) -> Vars {
        self.env.vars()
    }

    fn app_state(&self) -> AppState {
        self.state.clone()
    }

    fn run<F: Future<Output: Send> + Send>(
        &self,
        name: &'static str,
        limit: Duration,
        work: F,
    ) -> impl Future<Output = Option<F::Output>> + Send {
        self.env.run(name, limit, work)
    }
}

impl Surroundings for Env {
    fn random(&self, bytes: &mut [u8]) {
        js::fill_random(bytes);
    }

    fn vars(&self) -> Vars {
        let env = self.clone();
        Arc::new(move |name| env.var(name))
    }

    fn run<F: Future<Output: Send> + Send>(
        &self,
        _name: &'static str,
        limit: Duration,
        work: F,
    ) -> impl Future<Output = Option<F::Output>> + Send {
        SendWrapper::new(async move {
            match select(pin!(work), pin!(pause(limit))).await {
                Either::Left((output, _)) => Some(output),
                Either::Right(_) => None,
            }
        })
    }
}
