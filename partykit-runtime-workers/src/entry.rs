use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{Method, request::Parts, uri::Scheme};
use js_sys::Promise;
use partykit_core::{
    BoxError, Close, Options, Refusal, Request, Response, Route, Vars,
    runtime::{
        AppState, Chain,
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
    js::{self, JsRequest, JsResponse, WebSocketPair},
    log,
    parties::{Parties, Party},
    stub::{Stub, StubError},
    tasks::Tasks,
    timers::pause,
};

/// Answers a request from outside. The `fetch` handler of [`export!`](crate::export) calls this.
pub fn fetch(parties: fn(&Env) -> &'static Parties, request: JsValue, env: JsValue) -> Promise {
    clock::arrive();
    let env = Env::new(env);
    log::init(&env);
    let parties = parties(&env);
    let tasks = Tasks::new();
    let _call = tasks.enter();
    let entry = Entry { parties, env, tasks: tasks.clone() };
    let response = tasks.promise(async move {
        let response = match entry.answer(request.unchecked_into()).await {
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
struct Entry {
    parties: &'static Parties,
    env: Env,
    /// Of this one request.
    tasks: Tasks,
}

/// An answer, of ours or of a room.
enum Answer {
    Ours(Response),
    Rooms(JsResponse),
}

impl Entry {
    async fn answer(&self, request: JsRequest) -> Result<JsResponse, BoxError> {
        let Ok(head) = convert::head(&request) else {
            return self.to_js(Refused::BadUrl.into_response());
        };
        let body = request.body().map_err(convert::thrown)?;
        let routes = &self.parties.settings.routes;
        let is_encrypted = head.uri.scheme() == Some(&Scheme::HTTPS);
        let host = head.uri.authority();
        let asked = Asked { head: &head, host, peer_host: host, is_encrypted };
        let (decision, visit) = routes.find(&asked, |name| self.parties.named(name));
        let answer = match decision {
            Decision::Respond(response) => Ok(Answer::Ours(response)),
            Decision::Refuse(refused) => Err(refused),
            Decision::Fallback => self.fall_back(head, body).await.map(Answer::Ours),
            Decision::Room { party, route, wish: Wish::Connect(handshake) } => {
                self.connect(party, &route, &visit, handshake, head).await
            }
            Decision::Room { party, route, wish: Wish::Request } => {
                self.request(party, &route, &visit, head, body).await
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
    ) -> Result<Answer, Refused> {
        let body = convert::read(body, party.options().request_body_limit()).await?;
        let request = Request::from_parts(head, body.into());
        let request = party.server().before_request(&self.hooks(), route, request).await?;
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
        let sent = stub.send(envelope, body).await;
        sent.map(Answer::Rooms).map_err(|error| match error {
            StubError::Overloaded(_) => Refusal::Overloaded.into(),
            StubError::Failed(detail) => self.failed(&detail),
        })
    }

    /// Passes a request that is not for a room to the fallback.
    async fn fall_back(&self, head: Parts, body: JsValue) -> Result<Response, Refused> {
        let fallback = self.parties.settings.fallback.as_ref().ok_or(Refused::NotFound)?;
        let is_head = head.method == Method::HEAD;
        let body = convert::read(body, Options::default().request_body_limit()).await?;
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
