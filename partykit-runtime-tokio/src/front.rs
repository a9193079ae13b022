use std::{fmt, net::IpAddr, sync::Arc};

use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, StatusCode, header, request::Parts};
use partykit_core::{
    Handler, Lobby, Options, Request, Response, Route, RoutePrefix,
    runtime::{Chain, Origins, Visitor},
};
use tracing::{Instrument, error_span};

use crate::{
    Handle,
    answer::hang_up,
    arrival::{Arrival, ArrivalBody},
    body::{self, Reading},
    hook::{self, Denied},
    host::TokioHost,
    limits::{Clients, Place, RoomRate},
    listen::Ingress,
    memory::Memory,
    party::Party,
    proxies::Proxies,
    refusals::{self, For, Refusals, Why, refuse},
    shutdown::Shutdown,
    upgrade,
};

/// What answers a request that is for no room.
pub(crate) type Fallback = Arc<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>;

/// Where requests come in: finds whom each is for.
pub(crate) struct Front {
    pub(crate) host: Arc<TokioHost>,
    pub(crate) prefix: RoutePrefix,
    pub(crate) origins: Origins,
    pub(crate) proxies: Proxies,
    pub(crate) refusals: Refusals,
    pub(crate) fallback: Fallback,
    pub(crate) shutdown: Arc<Shutdown>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) room_rate: RoomRate,
    pub(crate) memory: Arc<Memory>,
}

impl Front {
    /// In a box, whose type says that it may run on any thread: the compiler cannot find that out by
    /// itself where servers of all kinds call this.
    pub(crate) fn answer(
        self: Arc<Self>,
        request: http::Request<ArrivalBody>,
        ingress: Ingress,
    ) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            match Arrival::new(request, ingress, &self.proxies) {
                Ok(arrival) => self.receive(arrival).await,
                Err(refusal) => refusal,
            }
        })
    }

    async fn receive(self: &Arc<Self>, arrival: Arrival) -> Response {
        let hosts = [arrival.peer_host.as_ref(), arrival.host.as_ref()];
        if let Some(foreign) = hosts.into_iter().find(|host| !self.origins.answers_for(*host)) {
            let mut response = refusals::misdirected(foreign.map_or("", |host| host.as_str()));
            self.refusals.report(&mut response, For::default());
            return response;
        }
        let path = arrival.head.uri.path();
        let route = match self.prefix.parse(path) {
            Ok(Some(route))
                if self.host.party(route.party()).is_none() && self.prefix.is_short(path) =>
            {
                return self.fall_back(arrival).await;
            }
            Ok(Some(route)) => Ok(route),
            Ok(None) => return self.fall_back(arrival).await,
            Err(error) => Err(refuse(error.status(), error, Why::NoRoom)),
        };
        let (host, is_encrypted) = (arrival.host.clone(), arrival.is_encrypted);
        let visitor = self.origins.judge(&arrival.head.headers, host.as_ref(), is_encrypted);
        let (mut response, route) = match route {
            Ok(route) => (self.enter(&route, &visitor, arrival).await, Some(route)),
            Err(refusal) => (refusal, None),
        };
        let whom = For {
            party: route.as_ref().map_or("", |route| route.party()),
            room: route.as_ref().map_or("", |route| route.room().as_str()),
            host: host.as_ref().map_or("", |host| host.as_str()),
        };
        self.refusals.report(&mut response, whom);
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.origins.stamp(&visitor, response.headers_mut());
        }
        response
    }

    /// To a room.
    async fn enter(
        self: &Arc<Self>,
        route: &Route,
        visitor: &Visitor,
        arrival: Arrival,
    ) -> Response {
        let Some(party) = self.host.party(route.party()) else {
            return refuse(StatusCode::NOT_FOUND, "no such party", Why::NoParty);
        };
        let Arrival { head, .. } = &arrival;
        if let Some(response) = Origins::preflight(&head.method, &head.headers, visitor) {
            return response;
        }
        if !self.has_place(&arrival) {
            self.refusals.crowded();
            return crowded();
        }
        let (party_name, room) = (route.party(), route.room().as_str());
        if upgrade::is_wanted(&head.headers) {
            let span = error_span!("connect", party = party_name, room);
            upgrade::connect(self, party, route, visitor, arrival).instrument(span).await
        } else if upgrade::is_cut_short(&head.headers) {
            let line = "a WebSocket handshake needs `Upgrade: websocket` and `Connection: Upgrade`";
            refuse(StatusCode::UPGRADE_REQUIRED, line, Why::NoUpgrade)
        } else {
            let span = error_span!("request", party = party_name, room, method = %head.method);
            self.request(party, route, arrival).instrument(span).await
        }
    }

    /// A plain request to a room.
    async fn request(&self, party: &Party, route: &Route, arrival: Arrival) -> Response {
        let is_head = arrival.head.method == Method::HEAD;
        let client = self.room_rate.address(&arrival.head);
        let answer = async {
            let limit = party.options().request_body_limit();
            let read =
                self.read(&arrival.head, arrival.body, limit, arrival.place.as_ref()).await?;
            let request = Request::from_parts(arrival.head, read.bytes.clone().into());
            let hook = party.before_request(request, self.lobby(route));
            let request = hook::admit(&self.host, party, Handler::OnBeforeRequest, hook)
                .await
                .map_err(Denied::response)?
                .into_request();
            self.count_if_new(route, client)?;
            let refused = refusals::busy;
            let answer = self
                .host
                .enter(party, route.address(), |cell| cell.request(request, Chain::new()))
                .map_err(refused)?;
            let response = answer.await.map_err(refused)?;
            Ok::<_, Response>(hook::fit(&self.host, "on_request", response))
        };
        own_length(answer.await.unwrap_or_else(|response| response), is_head)
    }

    /// To nobody's room.
    async fn fall_back(&self, arrival: Arrival) -> Response {
        let is_late = !self.has_place(&arrival);
        let is_head = arrival.head.method == Method::HEAD;
        let answer = async {
            let limit = Options::default().request_body_limit();
            let place = arrival.place.as_ref();
            let read = self.read(&arrival.head, arrival.body, limit, place).await?;
            let mut request = Request::from_parts(arrival.head, read.bytes.clone().into());
            let handle = Handle::new(self.host.clone(), self.shutdown.clone());
            request.extensions_mut().insert(handle);
            // The function itself may panic, not only its future.
            let fallback = self.fallback.clone();
            let work = Box::pin(async move { fallback(request).await });
            let response = hook::guard(&self.host, "the fallback", work).await?;
            Ok::<_, Response>(hook::fit(&self.host, "the fallback", response))
        };
        let response = answer.await.unwrap_or_else(|response| response);
        let mut response = own_length(response, is_head);
        if is_late {
            // The place is for the next one.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn read(
        &self,
        head: &Parts,
        body: ArrivalBody,
        limit: usize,
        place: Option<&Arc<Place>>,
    ) -> Result<body::Read, Response> {
        let client = self.room_rate.client(head);
        body::read(body, Reading { limit, memory: &self.memory, client, place }).await
    }

    /// Whether the client has a place for more than a question about the server, now that it is known
    /// where it is.
    fn has_place(&self, arrival: &Arrival) -> bool {
        let Some(place) = &arrival.place else { return true };
        // A proxy that does not say for whom it speaks is no client.
        let client = self.room_rate.client(&arrival.head);
        let client = client.filter(|client| !self.proxies.trusts(Some(*client)));
        !place.is_late() && client.is_none_or(|client| place.move_to(client).is_ok())
    }

    /// Counts a room that a client is about to bring into memory.
    ///
    /// # Errors
    ///
    /// An answer, when its address has done so too often.
    pub(crate) fn count_if_new(
        &self,
        route: &Route,
        client: Option<IpAddr>,
    ) -> Result<(), Response> {
        if client.is_none() || self.host.registry().find(route.address()).is_some() {
            return Ok(());
        }
        self.room_rate.count(client)
    }

    pub(crate) fn lobby(&self, route: &Route) -> Lobby {
        Lobby::with_vars(route.address().clone(), self.host.vars().clone())
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("host", &self.host).finish_non_exhaustive()
    }
}

/// There are as many clients as there may be, of all or at one address.
fn crowded() -> Response {
    let mut response = hang_up(StatusCode::SERVICE_UNAVAILABLE, "there are too many clients");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// Lets the length of a body at hand be what it is, whatever a user's header says of it. The answer to
/// a HEAD tells the length of a body that it does not have.
fn own_length(mut response: Response, is_head: bool) -> Response {
    if !is_head && !response.body().is_stream() {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response
}
