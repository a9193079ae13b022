use std::{future::Future, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Either, select},
};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{SEC_WEBSOCKET_PROTOCOL, UPGRADE},
    request::Parts,
    uri::Authority,
};
use js_sys::Promise;
use partykit_core::{
    Admission, Admit, BoxError, Close, ConnectionId, Lobby, Options, Refusal, Reject, Request,
    Response, Result, Route, Vars,
    runtime::{Chain, Origins, Visitor, answer, failure, fit, hook_answer},
};
use tracing::debug;
use wasm_bindgen::{JsCast, JsValue};

use crate::{
    Env, clock, convert,
    envelope::{Asked, Envelope},
    js::{self, JsRequest, JsResponse, WebSocketPair},
    log,
    parties::{Parties, Party},
    stub::{Stub, StubError},
    tasks::Tasks,
    timers::pause,
};

/// How long a before-hook, or the fallback, may take: as long as a handler unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers a request that comes in from outside: what the `fetch` does that [`export!`](crate::export)
/// makes.
pub fn fetch(parties: &'static Parties, request: JsValue, env: JsValue) -> Promise {
    clock::arrive();
    let env = Env::new(env);
    log::init(&env);
    let tasks = Tasks::new();
    let _call = tasks.enter();
    let entry = Entry { parties, env, tasks: tasks.clone() };
    let response = tasks.promise(async move {
        let response = match entry.answer(request.unchecked_into()).await {
            Ok(response) => response,
            Err(error) => convert::to_js(&entry.tasks, failed(FAILED, Some(&error.to_string())))?,
        };
        Ok(response.into())
    });
    tasks.run();
    response
}

/// Where requests come in: finds whom each is for. There may be any number, anywhere.
struct Entry {
    parties: &'static Parties,
    env: Env,
    /// Of this one request.
    tasks: Tasks,
}

/// A request and whom its client wanted to talk to.
struct Arrival {
    head: Parts,
    body: JsValue,
    host: Option<Authority>,
}

/// An answer, of ours or of a room.
enum Answer {
    Ours(Response),
    Rooms(JsResponse),
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Ours(response)
    }
}

impl Entry {
    async fn answer(&self, request: JsRequest) -> Result<JsResponse, BoxError> {
        let Ok(head) = convert::head(&request) else {
            let bad = answer(StatusCode::BAD_REQUEST, "the URL is not valid");
            return convert::to_js(&self.tasks, bad).map_err(convert::thrown);
        };
        let host = head.uri.authority().cloned();
        let body = request.body().map_err(convert::thrown)?;
        self.receive(Arrival { head, body, host }).await
    }

    async fn receive(&self, arrival: Arrival) -> Result<JsResponse, BoxError> {
        let settings = &self.parties.settings;
        let path = arrival.head.uri.path();
        let found = settings.prefix.parse(path).map(|route| {
            // Without a party `main`, its short form is a path as any other.
            let is_known = |route: &Route| self.parties.named(route.party()).is_some();
            route.filter(|route| is_known(route) || !settings.prefix.is_short(path))
        });
        let route = match found {
            Ok(Some(route)) => Ok(route),
            Ok(None) => {
                let response = self.fall_back(arrival).await.unwrap_or_else(|refusal| refusal);
                return convert::to_js(&self.tasks, response).map_err(convert::thrown);
            }
            Err(error) => Err(answer(error.status(), error)),
        };
        let origins = &settings.origins;
        let visitor = origins.judge(
            &arrival.head.headers,
            arrival.host.as_ref(),
            arrival.head.uri.scheme() == Some(&http::uri::Scheme::HTTPS),
        );
        let answer = match route {
            Ok(route) => self.enter(&route, &visitor, arrival).await,
            Err(refusal) => Err(refusal),
        };
        match answer.unwrap_or_else(Answer::Ours) {
            // As it is: the room has made it fit for this client.
            Answer::Rooms(response) => Ok(response),
            Answer::Ours(mut response) => {
                origins.stamp(&visitor, response.headers_mut());
                convert::to_js(&self.tasks, response).map_err(convert::thrown)
            }
        }
    }

    /// To a room. What comes back as an error is an answer, too.
    async fn enter(
        &self,
        route: &Route,
        visitor: &Visitor,
        arrival: Arrival,
    ) -> Result<Answer, Response> {
        let Some(party) = self.parties.named(route.party()) else {
            return Err(answer(StatusCode::NOT_FOUND, "no such party"));
        };
        let head = &arrival.head;
        if let Some(response) = Origins::preflight(&head.method, &head.headers, visitor) {
            return Err(response);
        }
        if is_upgrade(&head.headers) {
            self.connect(party, route, visitor, arrival).await
        } else {
            self.request(party, route, visitor, arrival).await
        }
    }

    async fn connect(
        &self,
        party: &Party,
        route: &Route,
        visitor: &Visitor,
        arrival: Arrival,
    ) -> Result<Answer, Response> {
        let Arrival { head, .. } = arrival;
        if head.method != Method::GET {
            return Err(answer(StatusCode::BAD_REQUEST, "a WebSocket handshake is a GET request"));
        }
        let id = ConnectionId::from_query(head.uri.query())
            .map_err(|error| answer(error.status(), error))?;
        if *visitor == Visitor::Foreign {
            return Err(answer(StatusCode::FORBIDDEN, "this page may not connect here"));
        }
        let offered: Vec<String> = tokens(&head.headers).map(ToOwned::to_owned).collect();
        let address = head.uri.to_string();
        let request = http::Request::from_parts(head, Bytes::new().into());
        let hook = party.before_connect(request, self.lobby(route));
        let admission = match admit("on_before_connect", hook).await {
            Ok(admission) => admission,
            Err(Denied::Answer(response)) => return Err(response),
            Err(Denied::Rejected(reject)) => {
                // Browsers insist on one of the protocols that they offer.
                let protocol = offered.first().map(String::as_str);
                let turned_away = turn_away(&reject.close(), protocol).map_err(convert::thrown);
                return turned_away
                    .map(Answer::Rooms)
                    .map_err(|error| failed(FAILED, Some(&error.to_string())));
            }
        };
        let protocol = admission.chosen_protocol().map(ToOwned::to_owned);
        if let Some(chosen) = &protocol
            && !offered.contains(chosen)
        {
            let detail = format!("on_before_connect chose {chosen:?}, which was not offered");
            return Err(failed(detail, None));
        }
        let id = id.map_or_else(fresh_id, |id| id.to_string());
        let request = admission.into_request();
        let kind = Asked::Connect { id, address, protocol };
        let envelope = Envelope::new(kind, &request, &Chain::new()).for_page_of(visitor);
        self.send(party, route, &envelope, &Bytes::new()).await
    }

    /// A plain request to a room.
    async fn request(
        &self,
        party: &Party,
        route: &Route,
        visitor: &Visitor,
        arrival: Arrival,
    ) -> Result<Answer, Response> {
        let body = convert::read(arrival.body, party.options().request_body_limit()).await?;
        let request = Request::from_parts(arrival.head, body.into());
        let hook = party.before_request(request, self.lobby(route));
        let admission = admit("on_before_request", hook).await.map_err(|denied| match denied {
            Denied::Answer(response) => response,
            Denied::Rejected(reject) => reject.response(),
        })?;
        let request = admission.into_request();
        let envelope = Envelope::new(Asked::Request, &request, &Chain::new()).for_page_of(visitor);
        let body = convert::collect(request.into_body())
            .await
            .map_err(|error| failed(FAILED, Some(&error.to_string())))?;
        self.send(party, route, &envelope, &body).await
    }

    async fn send(
        &self,
        party: &Party,
        route: &Route,
        envelope: &Envelope,
        body: &Bytes,
    ) -> Result<Answer, Response> {
        let settings = &self.parties.settings;
        let stub = Stub { env: &self.env, settings, party, address: route.address() };
        let sent = stub.send(envelope, body).await;
        sent.map(Answer::Rooms).map_err(|error| match error {
            StubError::Overloaded(_) => Refusal::Overloaded.response(),
            StubError::Failed(detail) => failed(FAILED, Some(&detail)),
        })
    }

    /// A request that is for no room.
    async fn fall_back(&self, arrival: Arrival) -> Result<Response, Response> {
        let Some(fallback) = &self.parties.settings.fallback else {
            return Err(answer(StatusCode::NOT_FOUND, "not found"));
        };
        let body = convert::read(arrival.body, Options::default().request_body_limit()).await?;
        let request = Request::from_parts(arrival.head, body.into());
        // The function itself may panic, not only its future.
        let work = async { fallback(request, self.env.clone()).await };
        guard("the fallback", work)
            .await
            .map(|response| fit(js::fill_random, "the fallback", response))
    }

    fn lobby(&self, route: &Route) -> Lobby {
        let env = self.env.clone();
        let vars: Vars = Arc::new(move |name| env.var(name));
        Lobby::with_vars(route.address().clone(), vars)
    }
}

/// Why a before-hook refused a client.
enum Denied {
    /// This is the answer for the client.
    Answer(Response),
    /// It is the client's fault.
    Rejected(Reject),
}

impl From<Response> for Denied {
    fn from(response: Response) -> Self {
        Self::Answer(response)
    }
}

/// Runs a before-hook to its answer.
///
/// # Errors
///
/// The answer for the client, when the hook gave one, or failed in any way.
async fn admit(name: &str, hook: BoxFuture<'static, Result<Admit>>) -> Result<Admission, Denied> {
    match hook_answer(guard(name, hook).await?) {
        Ok(Admit::Continue(admission)) => Ok(admission),
        Ok(Admit::Respond(response)) => Err(fit(js::fill_random, name, response).into()),
        Ok(Admit::Reject(reject)) => {
            let (status, text) = (reject.status().as_u16(), reject.text());
            debug!(status, text, "{name} rejected what a client sent");
            Err(Denied::Rejected(reject))
        }
        Err(error) => Err(failed(format_args!("{name} failed"), Some(&error.to_string())).into()),
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

/// Runs a user's function that is not a room's.
///
/// # Errors
///
/// The answer for the client, when the function panics (where that can be noticed) or takes too long.
async fn guard<T>(name: &str, work: impl Future<Output = T>) -> Result<T, Response> {
    let work = AssertUnwindSafe(work).catch_unwind();
    match select(pin!(work), pin!(pause(PATIENCE))).await {
        Either::Left((Ok(result), _)) => Ok(result),
        // The hook of panics has the detail.
        Either::Left((Err(_), _)) => Err(failed(format_args!("{name} panicked"), None)),
        Either::Right(_) => {
            Err(failed(format_args!("{name} was cancelled after {PATIENCE:?}"), None))
        }
    }
}

/// What the log says of a failure that has a text of somebody else's.
const FAILED: &str = "a request failed";

fn failed(what: impl std::fmt::Display, error: Option<&str>) -> Response {
    failure(js::fill_random, what, error)
}

fn fresh_id() -> String {
    let mut bytes = [0; 16];
    js::fill_random(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// The sub-protocols that a client offers.
fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
    let values = values.filter_map(|value: &HeaderValue| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}
