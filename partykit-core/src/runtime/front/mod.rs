//! The front of the rooms, for all runtimes: routing, checks of pages and hosts, the application's hooks, and
//! every answer that does not come from a room.
//!
//! A runtime reads the head of a request and asks [`Routes::find`], which does no IO. Depending on the
//! [`Decision`], it reads the body, asks the hook ([`AnyServer::before_connect`],
//! [`AnyServer::before_request`]), and gives the event to the room. The result is an answer or [`Refused`].
//! [`Routes::stamp`] adds headers before it is sent.

mod handshake;
mod hooks;
mod refused;
mod routes;
mod server;

use http::{
    header::{HeaderValue, ORIGIN},
    request::Parts,
    uri::Authority,
};

pub use self::{
    handshake::{BadHandshake, Handshake},
    hooks::{Connecting, PATIENCE, Surroundings, Welcome, error_id, fall_back, fit},
    refused::{BadHost, Refused},
    routes::Routes,
    server::AnyServer,
};
use crate::{
    Response, RoomAddress, Route,
    runtime::{Origins, Visitor},
};

/// The most bytes of an origin or a host that are kept for the log.
const EXCERPT: usize = 256;

/// The head of a request, and what the runtime knows of how it came. See [`Routes`] for an example.
///
/// ```
/// use partykit_core::runtime::{front::Asked, parse_host};
///
/// let host = parse_host("h.com");
/// let (head, ()) = http::Request::get("http://h.com/parties/chat/lobby").body(())?.into_parts();
/// let host = host.as_ref();
/// let asked = Asked { head: &head, host, peer_host: host, is_encrypted: false };
/// # let _ = asked;
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs, reason = "each runtime has to say all of it")]
pub struct Asked<'a> {
    /// The head, without [internal headers](crate::runtime::strip_internal).
    pub head: &'a Parts,
    /// The host that the client asked for; `None` if it is not known.
    pub host: Option<&'a Authority>,
    /// The host that the other end of the connection asked for, which may be a proxy with a name of its
    /// own.
    pub peer_host: Option<&'a Authority>,
    /// Whether it is certain that the client used TLS.
    pub is_encrypted: bool,
}

/// What to do with a request. `P` is the runtime's party.
///
/// ```
/// use partykit_core::runtime::front::Decision;
///
/// fn is_for_a_room<P>(decision: &Decision<P>) -> bool {
///     matches!(decision, Decision::Room { .. })
/// }
/// # let _ = is_for_a_room::<()>;
/// ```
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "each runtime has to do all of it")]
pub enum Decision<P> {
    /// It is answered.
    Respond(Response),
    /// It is refused.
    Refuse(Refused),
    /// It is not for a room: the fallback answers, see [`fall_back`].
    Fallback,
    /// It is for a room.
    Room {
        /// The party that the room is of.
        party: P,
        /// The room, and the path after it.
        route: Route,
        /// What the client wants of it.
        wish: Wish,
    },
}

/// What a client wants of a room.
///
/// ```
/// use partykit_core::runtime::front::Wish;
///
/// fn has_body(wish: &Wish) -> bool {
///     matches!(wish, Wish::Request)
/// }
/// # assert!(has_body(&Wish::Request));
/// ```
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "there is nothing else to want")]
pub enum Wish {
    /// An answer.
    Request,
    /// A connection.
    Connect(Handshake),
}

/// The room of a request, if it is known, and the page that sent it.
///
/// ```
/// use partykit_core::runtime::{Visitor, front::Visit};
///
/// let nowhere = Visit::default();
/// assert_eq!((nowhere.address(), nowhere.visitor()), (None, &Visitor::Unknown));
/// ```
#[derive(Debug, Default)]
pub struct Visit {
    address: Option<RoomAddress>,
    /// `None` if it is not for a room.
    visitor: Option<Visitor>,
}

impl Routes {
    /// Decides about a request by its head. `party` finds a party by its name.
    pub fn find<P>(
        &self,
        asked: &Asked<'_>,
        party: impl FnOnce(&str) -> Option<P>,
    ) -> (Decision<P>, Visit) {
        let Asked { head, host, peer_host, is_encrypted } = *asked;
        let is_foreign = |host: &Option<&Authority>| !self.origins().answers_for(*host);
        if let Some(foreign) = [peer_host, host].into_iter().find(is_foreign) {
            let name = excerpt(foreign.map_or("", Authority::as_str));
            return (Decision::Refuse(Refused::ForeignHost(name)), Visit::default());
        }
        let path = head.uri.path();
        let route = match self.parse(path) {
            Ok(None) => return (Decision::Fallback, Visit::default()),
            // A party with a prefix of its own is nowhere else.
            Ok(Some(route)) if !self.is_at(&route, path) => Ok((None, route)),
            Ok(Some(route)) => Ok((party(route.party()), route)),
            Err(error) => Err(error),
        };
        // Without a party `main`, its short form is a path like any other.
        if matches!(route, Ok((None, _))) && self.is_short(path) {
            return (Decision::Fallback, Visit::default());
        }
        let address = route.as_ref().ok().map(|(_, route)| route.address().clone());
        let origins = address.as_ref().map(|address| self.origins_of(address.party()));
        let origins = origins.unwrap_or(self.origins());
        let visitor = origins.judge(&head.headers, host, is_encrypted);
        let decision = match route {
            Ok((Some(party), route)) => enter(head, &visitor, party, route),
            Ok((None, _)) => Decision::Refuse(Refused::NoParty),
            Err(error) => Decision::Refuse(error.into()),
        };
        (decision, Visit { address, visitor: Some(visitor) })
    }
}

/// Decides about a request to a party that is there.
fn enter<P>(head: &Parts, visitor: &Visitor, party: P, route: Route) -> Decision<P> {
    if let Some(response) = Origins::preflight(&head.method, &head.headers, visitor) {
        return Decision::Respond(response);
    }
    if !Handshake::is_wanted(&head.headers) {
        return match Handshake::is_cut_short(&head.headers) {
            true => Decision::Refuse(Refused::NoUpgrade),
            false => Decision::Room { party, route, wish: Wish::Request },
        };
    }
    match Handshake::parse(head) {
        Err(refused) => Decision::Refuse(refused),
        Ok(_) if *visitor == Visitor::Foreign => {
            let origin = head.headers.get(ORIGIN).map_or(&b""[..], HeaderValue::as_bytes);
            let origin = excerpt(&String::from_utf8_lossy(origin));
            Decision::Refuse(Refused::ForeignPage(origin))
        }
        Ok(handshake) => Decision::Room { party, route, wish: Wish::Connect(handshake) },
    }
}

impl Visit {
    /// The room that the client asked for, if its URL names one. There may be no such party.
    pub fn address(&self) -> Option<&RoomAddress> {
        self.address.as_ref()
    }

    /// The page that sent it. [`Visitor::Unknown`] if the request is not for a room.
    pub fn visitor(&self) -> &Visitor {
        self.visitor.as_ref().unwrap_or(&Visitor::Unknown)
    }
}

/// The beginning of a client's text.
fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT).collect()
}
