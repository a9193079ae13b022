//! Where requests come in, from sockets or from another server. [`partykit_core::runtime::front`] decides
//! which room a request is for, and makes all answers that do not come from a room.

mod arrival;
mod body;
mod client;
mod head;
mod http1;
mod refusals;
mod request;
mod serve;
mod service;
mod unread;
mod upgrade;
mod young;

pub use self::service::RuntimeService;
pub(crate) use self::{
    refusals::Refusals,
    serve::{Accepting, accept},
};

#[cfg(unix)]
use std::sync::{Mutex, PoisonError};
use std::{fmt, io, net::IpAddr, sync::Arc, time::Duration};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Either, ready},
};
use http::{
    HeaderMap, HeaderValue,
    header::{CONNECTION, Entry},
    uri::Authority,
};
use partykit_core::{
    Handler, Request, Response, Route, Vars,
    runtime::{
        AppState, Host,
        front::{Decision, Handshake, Refused, Routes, Surroundings, Visit, Wish},
    },
};
use tracing::{Instrument, Span, error_span};

use self::{
    arrival::{Arrival, ArrivalBody},
    upgrade::{Asked, Switch},
    young::in_own_task,
};
#[cfg(unix)]
use crate::handover::Held;
use crate::{
    host::TokioHost,
    ingress::Ingress,
    limits::{Clients, Place, RoomRate},
    memory::Memory,
    party::Party,
    proxies::Proxies,
    shutdown::Shutdown,
    socket::Verdict,
    watch::{self, Work},
};

/// Answers requests that are not for a room.
pub(crate) type Fallback = Arc<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>;

/// How a request is answered.
enum Answer {
    Http(Box<Response>),
    WebSocket(Switch),
}

impl Answer {
    fn new(response: Response) -> Self {
        Self::Http(Box::new(response))
    }
}

/// How far a handshake has come at once.
enum Now {
    Answered(Answer),
    /// Its room has to answer.
    Asked(Waits),
    /// Code of the application is asked next.
    Decided(Decision<()>, Box<Arrival>, Visit),
}

/// A handshake that waits for its room.
struct Waits {
    asked: Asked,
    span: Span,
    visit: Visit,
    host: Option<Authority>,
}

/// Where requests come in.
pub(crate) struct Front {
    pub(crate) host: Arc<TokioHost>,
    pub(crate) routes: Routes,
    pub(crate) proxies: Proxies,
    pub(crate) refusals: Refusals,
    pub(crate) fallback: Option<Fallback>,
    pub(crate) shutdown: Arc<Shutdown>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) room_rate: RoomRate,
    pub(crate) memory: Arc<Memory>,
    /// The memory for answers that wait for their clients.
    pub(crate) answers: Arc<Memory>,
    /// The process before this one, until everything is taken from it.
    #[cfg(unix)]
    pub(crate) held: Mutex<Option<Held>>,
}

impl Front {
    /// Takes over from the process before this one, if there is one.
    ///
    /// # Errors
    ///
    /// When that is not possible. Then this process must not serve.
    pub(crate) async fn take_over(self: &Arc<Self>) -> io::Result<()> {
        #[cfg(unix)]
        {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(held) = held {
                held.take(self).await?;
            }
        }
        Ok(())
    }

    /// Answers a request that hyper has read.
    fn answer_http(
        self: Arc<Self>,
        mut request: http::Request<ArrivalBody>,
        ingress: Ingress,
        place: Option<Arc<Place>>,
    ) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            let upgrade = hyper::upgrade::on(&mut request);
            let (head, body) = request.into_parts();
            let arrival = Arrival::new(head, body, place, ingress, &self.proxies);
            match self.answer(arrival).await {
                Answer::Http(response) => *response,
                Answer::WebSocket(switch) => {
                    let (response, when_sent) = switch.into_response(upgrade, ingress);
                    self.host.tokio().spawn(when_sent);
                    response
                }
            }
        })
    }

    /// Answers a request.
    ///
    /// The future is small, because Tokio copies it several times: all but a handshake that is in order is in a box.
    /// The type says that it is `Send`. The compiler cannot prove that by itself for the generic servers that call
    /// this.
    fn answer<'a>(
        &'a self,
        arrival: Result<Arrival, Refused>,
    ) -> impl Future<Output = Answer> + Send + 'a {
        match arrival {
            Ok(arrival) => {
                let (decision, visit, _) = self.decide(&arrival);
                Either::Left(self.act(decision, arrival, visit))
            }
            Err(refused) => Either::Right(ready(self.misunderstood(refused))),
        }
    }

    /// Asks the room of a handshake, unless code of the application is to be asked before it.
    fn answer_now(&self, arrival: Result<Arrival, Refused>) -> Now {
        let arrival = match arrival {
            Ok(arrival) => arrival,
            Err(refused) => return Now::Answered(self.misunderstood(refused)),
        };
        let (decision, visit, party) = self.decide(&arrival);
        match (decision, party.filter(|party| party.server().admits_connects())) {
            (Decision::Room { route, wish: Wish::Connect(handshake), .. }, Some(party)) => {
                let host = arrival.host.clone();
                let span = connect_span(&route);
                match span.in_scope(|| self.enter_unasked(party, &route, handshake, arrival)) {
                    Ok(asked) => Now::Asked(Waits { asked, span, visit, host }),
                    Err(refused) => Now::Answered(self.turn_away(refused, &visit, host.as_ref())),
                }
            }
            (decision, _) => Now::Decided(decision, Box::new(arrival), visit),
        }
    }

    /// The answer to a handshake whose room has answered.
    fn answer_asked(&self, waits: Waits, verdict: &Verdict) -> Answer {
        let Waits { asked, span, visit, host } = waits;
        match span.in_scope(|| self.conclude(asked, verdict)) {
            Ok(switch) => Answer::WebSocket(switch),
            Err(refused) => self.turn_away(refused, &visit, host.as_ref()),
        }
    }

    /// Does what was decided. All but a handshake is in a box.
    fn act<'a>(
        &'a self,
        decision: Decision<()>,
        arrival: Arrival,
        visit: Visit,
    ) -> impl Future<Output = Answer> + Send + 'a {
        let decision = match self.with_party(decision) {
            Decision::Room { party, route, wish: Wish::Connect(handshake) } => {
                return Either::Left(self.welcome(party, route, handshake, arrival, visit));
            }
            decision => decision,
        };
        let attending: BoxFuture<'a, Answer> =
            Box::pin(in_own_task(true, self.attend(decision, arrival, visit)));
        Either::Right(attending)
    }

    /// Decides about a request. Also returns its party, if there is one.
    fn decide(&self, arrival: &Arrival) -> (Decision<()>, Visit, Option<&Party>) {
        let mut found = None;
        let (decision, visit) = self.routes.find(&arrival.asked(), |name| {
            found = self.host.party(name);
            found.map(drop)
        });
        (decision, visit, found)
    }

    fn with_party(&self, decision: Decision<()>) -> Decision<&Party> {
        match decision {
            Decision::Respond(response) => Decision::Respond(response),
            Decision::Refuse(refused) => Decision::Refuse(refused),
            Decision::Fallback => Decision::Fallback,
            Decision::Room { party: (), route, wish } => match self.host.party(route.party()) {
                Some(party) => Decision::Room { party, route, wish },
                None => Decision::Refuse(Refused::NoParty),
            },
        }
    }

    /// Answers a request whose head makes no sense.
    fn misunderstood(&self, refused: Refused) -> Answer {
        Answer::new(self.refusals.answer(refused, None, None))
    }

    /// Refuses a handshake.
    fn turn_away(&self, refused: Refused, visit: &Visit, host: Option<&Authority>) -> Answer {
        let response = self.refusals.answer(refused, visit.address(), host);
        self.finish(response, visit, true, false)
    }

    /// Answers a handshake that a room may accept.
    fn welcome<'a>(
        &'a self,
        party: &'a Party,
        route: Route,
        handshake: Handshake,
        arrival: Arrival,
        visit: Visit,
    ) -> impl Future<Output = Answer> + Send + 'a {
        let host = arrival.host.clone();
        let span = connect_span(&route);
        let connected = span.in_scope(|| self.connect(party, route, handshake, arrival));
        connected.instrument(span).map(move |connected| match connected {
            Ok(switch) => Answer::WebSocket(switch),
            Err(refused) => self.turn_away(refused, &visit, host.as_ref()),
        })
    }

    /// Answers everything else.
    async fn attend(&self, decision: Decision<&Party>, arrival: Arrival, visit: Visit) -> Answer {
        let host = arrival.host.clone();
        let wants_socket = Handshake::is_wanted(&arrival.head.headers);
        let mut is_late = false;
        let answer = match decision {
            Decision::Respond(response) => Ok(response),
            Decision::Refuse(refused) => Err(refused),
            Decision::Fallback => {
                is_late = !self.has_place(&arrival);
                self.fall_back(arrival).await
            }
            Decision::Room { party, route, .. } if self.has_place(&arrival) => {
                let (name, room) = (route.party(), route.room().as_str());
                let method = &arrival.head.method;
                let span = error_span!("request", party = name, room, %method);
                self.request(party, &route, arrival).instrument(span).await
            }
            Decision::Room { .. } => Err(Refused::TooManyClients),
        };
        let answer = answer.unwrap_or_else(|refused| {
            self.refusals.answer(refused, visit.address(), host.as_ref())
        });
        self.finish(answer, &visit, wants_socket, is_late)
    }

    /// Adds to an answer what each answer has.
    fn finish(
        &self,
        mut response: Response,
        visit: &Visit,
        wants_socket: bool,
        is_late: bool,
    ) -> Answer {
        self.routes.stamp(visit, response.headers_mut());
        let party = visit.address().and_then(|address| self.host.party(address.party()));
        if let Some(party) = party.filter(|_| wants_socket) {
            party.meter().handshake_refused(response.status());
        }
        // The connection is closed in two cases. A client of the reserve has to leave its place to the next
        // one. And a proxy in front of a refused WebSocket may believe that it is a tunnel now, and send
        // anything.
        if is_late || (wants_socket && visit.address().is_some()) {
            close_after(response.headers_mut());
        }
        Answer::new(response)
    }

    /// Whether the client has a place for a request to a room, now that its address is known. A client of the
    /// reserve has not.
    fn has_place(&self, arrival: &Arrival) -> bool {
        let Some(place) = &arrival.place else { return true };
        // A trusted proxy that does not name its client does not count for its own address.
        let client = self.room_rate.client(&arrival.head);
        let client = client.filter(|client| !self.proxies.trusts(Some(*client)));
        !place.is_late() && client.is_none_or(|client| place.move_to(client).is_ok())
    }

    /// Counts a room that a client is about to bring into memory.
    ///
    /// # Errors
    ///
    /// When its address has done so too often.
    fn count_if_new(&self, route: &Route, client: Option<IpAddr>) -> Result<(), Refused> {
        if client.is_none() || self.host.registry().find(route.address()).is_some() {
            return Ok(());
        }
        self.room_rate.count(client)
    }
}

fn connect_span(route: &Route) -> Span {
    error_span!("connect", party = route.party(), room = &**route.room())
}

/// Ends the connection after this answer. An `Upgrade` in the header stays.
fn close_after(headers: &mut HeaderMap) {
    let close =
        if headers.contains_key(http::header::UPGRADE) { "Upgrade, close" } else { "close" };
    if let Entry::Vacant(connection) = headers.entry(CONNECTION) {
        connection.insert(HeaderValue::from_static(close));
    }
}

impl Surroundings for TokioHost {
    fn random(&self, bytes: &mut [u8]) {
        Host::random(self, bytes);
    }

    fn vars(&self) -> Vars {
        self.vars().clone()
    }

    fn app_state(&self) -> AppState {
        self.state().clone()
    }

    async fn run<F: Future<Output: Send> + Send>(
        &self,
        name: &'static str,
        limit: Duration,
        work: F,
    ) -> Option<F::Output> {
        let work = watch::over(Work::Other(name), work);
        tokio::time::timeout(limit, work).await.ok()
    }

    fn rejected(&self, party: &str, handler: Handler) {
        if let Some(party) = self.party(party) {
            party.rejected(handler);
        }
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("host", &self.host).finish_non_exhaustive()
    }
}
