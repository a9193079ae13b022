use std::sync::Arc;

use futures_util::FutureExt;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{
        CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
    },
    request::Parts,
};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
use partykit_core::{
    Body, Close, Connection, ConnectionId, Handler, Refusal, Response, Route,
    runtime::{RoomCell, Visitor},
};
use tracing::debug;

use crate::{
    answer::{failure, hang_up},
    arrival::Arrival,
    codec, farewell,
    front::Front,
    hook::{self, Denied},
    listen::Ingress,
    party::Party,
    refusals::{self, Why, refuse},
    shutdown::Alive,
    socket::{self, Link, Verdict},
};

/// Whether the client wants the connection to become a WebSocket.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    has_token(headers, UPGRADE, "websocket")
}

/// Whether it is a handshake that something on its way, a proxy most likely, has taken a header from.
pub(crate) fn is_cut_short(headers: &HeaderMap) -> bool {
    headers.contains_key(SEC_WEBSOCKET_KEY) && !is_wanted(headers)
}

/// Asks the hook, then the room, and turns the connection into a socket of the room.
pub(crate) async fn connect(
    front: &Arc<Front>,
    party: &Party,
    route: &Route,
    visitor: &Visitor,
    arrival: Arrival,
) -> Response {
    let connected = try_connect(front, party, route, visitor, arrival).await;
    connected.unwrap_or_else(|mut response| {
        party.link().meter.handshake_refused(response.status());
        // Whatever was in front of us may believe in a tunnel by now, and send anything.
        let close = HeaderValue::from_static("close");
        response.headers_mut().entry(CONNECTION).or_insert(close);
        response
    })
}

async fn try_connect(
    front: &Arc<Front>,
    party: &Party,
    route: &Route,
    visitor: &Visitor,
    arrival: Arrival,
) -> Result<Response, Response> {
    let Arrival { head, body, upgrade, ingress, .. } = arrival;
    let mut handshake = Handshake::parse(&head, body.is_end_stream())?;
    if *visitor == Visitor::Foreign {
        let origin = head.headers.get(ORIGIN).map_or(&b""[..], HeaderValue::as_bytes);
        return Err(refusals::foreign(&String::from_utf8_lossy(origin)));
    }
    let host = &front.host;
    let uri = head.uri.to_string();
    let client = front.room_rate.address(&head);
    let counts = party.link().pace.by_address.is_some();
    let talker = counts.then(|| front.room_rate.client(&head)).flatten();

    let request = http::Request::from_parts(head, Body::empty());
    let hook = party.before_connect(request, front.lobby(route));
    let admission = match hook::admit(host, party, Handler::OnBeforeConnect, hook).await {
        Ok(admission) => admission,
        Err(Denied::Rejected(reject)) if !front.shutdown.is_under_way() => {
            let alive = front.shutdown.socket();
            host.tokio().spawn(turn_away(upgrade, ingress, reject.close(), alive));
            // Browsers insist on one of the protocols that they offer.
            let protocol = handshake.offered.drain(..).next();
            return Ok(switching(&handshake.accept, protocol));
        }
        Err(denied) => return Err(denied.response()),
    };
    let protocol = admission.chosen_protocol().map(|chosen| {
        handshake.offered(chosen).ok_or_else(|| {
            let error = format!("it chose {chosen:?}, which was not offered");
            failure(host, "on_before_connect failed", Some(&error))
        })
    });
    let protocol = protocol.transpose()?;

    front.count_if_new(route, client)?;
    let id = handshake.id.map_or_else(|| host.token::<16>(), |id| id.to_string());
    let request = admission.into_request();
    let (link, verdict) = Link::new(party.link());
    if let Some(address) = talker {
        link.set_address(address);
    }
    let entered = host.enter(party, route.address(), |cell| {
        let socket = link.clone();
        cell.connect(&id, &uri, request, socket).map(|connection| (cell.clone(), connection))
    });
    let (room, connection) = entered.and_then(|entered| entered).map_err(refusals::busy)?;
    let pending = Pending(Some((room, connection)));

    let Ok(verdict) = verdict.await else {
        return Err(failure(host, "the room never answered the handshake", None));
    };
    // Connections that end with their next answer cannot become anything else.
    if front.shutdown.is_under_way() {
        return Err(refusals::busy(Refusal::ShuttingDown));
    }
    if let Verdict::Refuse(close) = &verdict {
        let (code, reason) = (u16::from(close.code()), close.reason());
        debug!(code, reason, "the room does not let the connection in");
    }
    let alive = front.shutdown.socket();
    host.tokio().spawn(become_socket(upgrade, ingress, link, pending, alive));
    Ok(switching(&handshake.accept, protocol))
}

/// Waits for the 101 to leave, then says this Close and nothing else.
async fn turn_away(upgrade: OnUpgrade, ingress: Ingress, close: Close, alive: Alive) {
    if let Ok(upgraded) = upgrade.await {
        let (io, _) = (ingress.release)(upgraded);
        farewell::say(io, &close).await;
    }
    drop(alive);
}

/// Waits for the 101 to leave, then runs the socket in a task that holds nothing else: it lives as
/// long as the client stays.
async fn become_socket(
    upgrade: OnUpgrade,
    ingress: Ingress,
    link: Arc<Link>,
    mut pending: Pending,
    alive: Alive,
) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return debug!("the client was gone before the upgrade: {error}"),
    };
    let Some((room, connection)) = pending.0.take() else { return };
    let (io, already_read) = (ingress.release)(upgraded);
    let socket = socket::run(io, already_read, link, room, connection);
    tokio::spawn(socket.map(|()| drop(alive)));
}

fn switching(accept: &HeaderValue, protocol: Option<HeaderValue>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept.clone());
    headers.extend(protocol.map(|protocol| (SEC_WEBSOCKET_PROTOCOL, protocol)));
    response
}

/// A connection that its room knows of, and that has no socket yet. Dropped, as when the client hangs
/// up, the room is told.
struct Pending(Option<(Arc<RoomCell>, Connection)>);

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some((room, connection)) = self.0.take() {
            room.closed(&connection, Close::abnormal("gone before the handshake ended"));
        }
    }
}

/// What a client says that wants a WebSocket, RFC 6455, section 4.2.1.
#[derive(Debug)]
struct Handshake {
    accept: HeaderValue,
    offered: Vec<HeaderValue>,
    id: Option<ConnectionId>,
}

impl Handshake {
    /// # Errors
    ///
    /// The answer, when it is not as the RFC has it, or could mean two things to two readers.
    fn parse(head: &Parts, has_no_body: bool) -> Result<Self, Response> {
        let bad = |problem: &str| Err(refuse(StatusCode::BAD_REQUEST, problem, Why::Handshake));
        let headers = &head.headers;
        if head.method != Method::GET || head.version != Version::HTTP_11 {
            return bad("an upgrade is a GET of HTTP/1.1");
        }
        if !has_no_body || headers.contains_key(TRANSFER_ENCODING) {
            return bad("an upgrade has no body");
        }
        if headers.get_all(UPGRADE).iter().count() > 1 {
            return bad("two Upgrade headers");
        }
        if !has_token(headers, CONNECTION, "upgrade") {
            let line = "an upgrade needs `Connection: Upgrade`";
            return Err(refuse(StatusCode::BAD_REQUEST, line, Why::NoUpgrade));
        }
        match one(headers, SEC_WEBSOCKET_VERSION) {
            Ok(Some(version)) if version == "13" => {}
            Ok(_) => return Err(wrong_version()),
            Err(Repeated) => return bad("two Sec-WebSocket-Version headers"),
        }
        let key = match one(headers, SEC_WEBSOCKET_KEY) {
            Ok(Some(key)) if is_key(key.as_bytes()) => codec::accept_key(key.as_bytes()),
            _ => return bad("an upgrade needs one Sec-WebSocket-Key of 16 bytes in base64"),
        };
        let Ok(accept) = HeaderValue::try_from(key) else {
            return bad("a bad Sec-WebSocket-Key");
        };
        let id = ConnectionId::from_query(head.uri.query())
            .map_err(|error| refuse(error.status(), error, Why::Handshake))?;
        let offered = tokens(headers, SEC_WEBSOCKET_PROTOCOL)
            .filter_map(|protocol| HeaderValue::from_str(protocol).ok())
            .collect();
        Ok(Self { accept, offered, id })
    }

    fn offered(&self, protocol: &str) -> Option<HeaderValue> {
        self.offered.iter().find(|offered| *offered == protocol).cloned()
    }
}

/// The one version there is goes along, so that a client could try again.
fn wrong_version() -> Response {
    let mut response = hang_up(StatusCode::UPGRADE_REQUIRED, "WebSockets have version 13");
    let headers = response.headers_mut();
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade, close"));
    response
}

/// 16 bytes in base64: 22 digits and the padding.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |c: &u8| c.is_ascii_alphanumeric() || b"+/".contains(c);
    matches!(key.split_last_chunk(), Some((digits, b"==")) if digits.len() == 22 && digits.iter().all(is_digit))
}

struct Repeated;

/// The value of a header that stands there once at most.
fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&HeaderValue>, Repeated> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(Repeated),
        (value, None) => Ok(value),
    }
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

/// The parts of a list between its commas.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(edit: impl FnOnce(&mut Parts)) -> Parts {
        let request = http::Request::builder()
            .uri("http://h.com/parties/main/a?_pk=me")
            .header(UPGRADE, "WebSocket")
            .header(CONNECTION, "keep-alive, Upgrade")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
            .header(SEC_WEBSOCKET_PROTOCOL, "a, b")
            .header(SEC_WEBSOCKET_PROTOCOL, "c");
        let mut head = request.body(()).unwrap().into_parts().0;
        edit(&mut head);
        head
    }

    fn status(edit: impl FnOnce(&mut Parts)) -> u16 {
        Handshake::parse(&head(edit), true).unwrap_err().status().as_u16()
    }

    #[test]
    fn reads_a_handshake() {
        let head = head(|_| ());
        assert!(is_wanted(&head.headers));
        let handshake = Handshake::parse(&head, true).unwrap();
        assert_eq!(handshake.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(handshake.id.as_deref(), Some("me"));
        assert_eq!(handshake.offered("c").unwrap(), "c");
        assert!(handshake.offered("d").is_none() && handshake.offered("a, b").is_none());
    }

    #[test]
    fn refuses_what_is_none() {
        let set = |name: HeaderName, value: &'static str| {
            move |head: &mut Parts| drop(head.headers.insert(name, HeaderValue::from_static(value)))
        };
        let add = |name: HeaderName, value: &'static str| {
            move |head: &mut Parts| {
                head.headers.append(name, HeaderValue::from_static(value));
            }
        };
        assert_eq!(status(|head| head.method = Method::POST), 400);
        assert_eq!(status(|head| head.version = Version::HTTP_10), 400);
        assert_eq!(status(|head| head.uri = "http://h.com/?_pk=".parse().unwrap()), 400);
        assert_eq!(status(set(CONNECTION, "close")), 400);
        assert_eq!(status(add(TRANSFER_ENCODING, "chunked")), 400);
        assert_eq!(status(add(UPGRADE, "websocket")), 400);
        assert_eq!(status(set(SEC_WEBSOCKET_VERSION, "12")), 426);
        assert_eq!(status(add(SEC_WEBSOCKET_VERSION, "13")), 400);
        assert_eq!(status(add(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")), 400);
        for key in ["", "AAAA", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ==="] {
            assert_eq!(status(set(SEC_WEBSOCKET_KEY, key)), 400, "{key}");
        }
        assert_eq!(status(set(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25j ZQ==")), 400);
        assert_eq!(Handshake::parse(&head(|_| ()), false).unwrap_err().status(), 400);
    }
}
