//! Where requests come in, from sockets or from another server. [`partykit_core::runtime::front`] decides
//! which room a request is for, and makes all answers that do not come from a room.

mod arrival;
mod body;
mod head;
mod http1;
mod refusals;
mod request;
mod serve;
mod service;
mod unread;
mod upgrade;

pub use self::service::RuntimeService;
pub(crate) use self::{refusals::Refusals, serve::accept};

#[cfg(unix)]
use std::sync::{Mutex, PoisonError};
use std::{fmt, io, net::IpAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use http::{
    HeaderMap, HeaderValue,
    header::{CONNECTION, Entry},
};
use partykit_core::{
    Handler, Request, Response, Route, Vars,
    runtime::{
        AppState, Host,
        front::{Decision, Handshake, Refused, Routes, Surroundings, Wish},
    },
};
use tracing::{Instrument, error_span};

use self::{
    arrival::{Arrival, ArrivalBody},
    upgrade::Switch,
};
#[cfg(unix)]
use crate::handover::Held;
use crate::{
    host::TokioHost,
    limits::{Clients, Place, RoomRate},
    listen::Ingress,
    memory::Memory,
    party::Party,
    proxies::Proxies,
    shutdown::Shutdown,
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
            match self.clone().answer(arrival).await {
                Answer::Http(response) => *response,
                Answer::WebSocket(switch) => {
                    let (response, when_sent) = switch.into_response(upgrade, ingress);
                    self.host.tokio().spawn(when_sent);
                    response
                }
            }
        })
    }

    /// The type says that the future is `Send`. The compiler cannot prove that by itself for the generic
    /// servers that call this.
    #[allow(clippy::manual_async_fn, reason = "an `async fn` does not say it")]
    fn answer(
        self: Arc<Self>,
        arrival: Result<Arrival, Refused>,
    ) -> impl Future<Output = Answer> + Send + 'static {
        async move {
            match arrival {
                Ok(arrival) => self.receive(arrival).await,
                Err(refused) => Answer::new(self.refusals.answer(refused, None, None)),
            }
        }
    }

    async fn receive(self: &Arc<Self>, arrival: Arrival) -> Answer {
        let (decision, visit) = self.routes.find(&arrival.asked(), |name| self.host.party(name));
        let host = arrival.host.clone();
        let mut is_late = false;
        let wants_socket = Handshake::is_wanted(&arrival.head.headers);
        let answer = match decision {
            Decision::Respond(response) => Ok(Answer::new(response)),
            Decision::Refuse(refused) => Err(refused),
            Decision::Fallback => {
                is_late = !self.has_place(&arrival);
                self.fall_back(arrival).await.map(Answer::new)
            }
            Decision::Room { party, route, wish } => self.enter(party, &route, wish, arrival).await,
        };
        let mut response = match answer {
            Ok(Answer::WebSocket(switch)) => return Answer::WebSocket(switch),
            Ok(Answer::Http(response)) => *response,
            Err(refused) => self.refusals.answer(refused, visit.address(), host.as_ref()),
        };
        self.routes.stamp(&visit, response.headers_mut());
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

    /// Passes a request to its room.
    async fn enter(
        self: &Arc<Self>,
        party: &Party,
        route: &Route,
        wish: Wish,
        arrival: Arrival,
    ) -> Result<Answer, Refused> {
        if !self.has_place(&arrival) {
            return Err(Refused::TooManyClients);
        }
        let (name, room) = (route.party(), route.room().as_str());
        match wish {
            Wish::Connect(handshake) => {
                let span = error_span!("connect", party = name, room);
                let connected = self.connect(party, route, handshake, arrival);
                connected.instrument(span).await.map(Answer::WebSocket)
            }
            Wish::Request => {
                let method = &arrival.head.method;
                let span = error_span!("request", party = name, room, %method);
                self.request(party, route, arrival).instrument(span).await.map(Answer::new)
            }
        }
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
