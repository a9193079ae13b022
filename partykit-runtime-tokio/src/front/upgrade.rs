use std::sync::Arc;

use futures_util::FutureExt;
use http::{
    HeaderValue, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
use partykit_core::{
    Body, Close, Connection, Refusal, Response, Route,
    runtime::{
        CloseReason, RoomCell,
        front::{BadHandshake, Connecting, Handshake, Refused, Welcome},
    },
};
use tracing::debug;

use super::{Front, arrival::Arrival};
use crate::{
    codec, farewell,
    listen::Ingress,
    party::Party,
    shutdown::Alive,
    socket::{self, Link, Verdict},
};

impl Front {
    /// Asks the hook and then the room, and makes the connection a WebSocket of the room.
    pub(super) async fn connect(
        &self,
        party: &Party,
        route: &Route,
        handshake: Handshake,
        arrival: Arrival,
    ) -> Result<Response, Refused> {
        let Arrival { head, body, upgrade, ingress, .. } = arrival;
        let key = Handshake::key(&head, body.is_end_stream())?;
        let accept =
            HeaderValue::try_from(codec::accept_key(key)).map_err(|_| BadHandshake::Key)?;
        let client = self.room_rate.address(&head);
        let counts = party.link().pace.by_address.is_some();
        let talker = counts.then(|| self.room_rate.client(&head)).flatten();

        let asked = party.server().before_connect(&*self.host, route, handshake, head);
        let Connecting { id, uri, request, protocol } = match asked.await? {
            Welcome::In(connecting) => connecting,
            Welcome::Away(..) if self.shutdown.is_under_way() => {
                return Err(Refusal::ShuttingDown.into());
            }
            Welcome::Away(close, protocol) => {
                let alive = self.shutdown.socket();
                self.host.tokio().spawn(turn_away(upgrade, ingress, close, alive));
                return Ok(switching(accept, protocol));
            }
        };
        self.count_if_new(route, client)?;
        let (link, verdict) = Link::new(party.link());
        if let Some(address) = talker {
            link.set_address(address);
        }
        let entered = self.host.enter(party, route.address(), |cell| {
            let socket = link.clone();
            cell.connect(&id, &uri, request, socket).map(|connection| (cell.clone(), connection))
        });
        let pending = Pending(Some(entered??));

        let Ok(verdict) = verdict.await else {
            let what = "the room never answered the handshake";
            return Err(Refused::failed(&*self.host, what, None));
        };
        // During a shutdown, connections end with their next answer and cannot become WebSockets.
        if self.shutdown.is_under_way() {
            return Err(Refusal::ShuttingDown.into());
        }
        if let Verdict::Refuse(close) = &verdict {
            let (code, reason) = (u16::from(close.code()), close.reason());
            debug!(code, reason, "the room refused the connection");
        }
        let alive = self.shutdown.socket();
        self.host.tokio().spawn(become_socket(upgrade, ingress, link, pending, alive));
        Ok(switching(accept, protocol))
    }
}

/// Waits until the 101 is sent, then sends only this Close.
async fn turn_away(upgrade: OnUpgrade, ingress: Ingress, close: Close, alive: Alive) {
    if let Ok(upgraded) = upgrade.await {
        let (io, _) = (ingress.release)(upgraded);
        farewell::say(io, &close).await;
    }
    drop(alive);
}

/// Waits until the 101 is sent, then runs the socket in a task of its own. The task lives as long as the
/// client stays, so it holds nothing of the request.
async fn become_socket(
    upgrade: OnUpgrade,
    ingress: Ingress,
    link: Arc<Link>,
    mut pending: Pending,
    alive: Alive,
) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return debug!("the client left before the upgrade: {error}"),
    };
    let Some((room, connection)) = pending.0.take() else { return };
    let (io, already_read) = (ingress.release)(upgraded);
    let socket = socket::run(io, already_read, link, room, connection);
    tokio::spawn(socket.map(|()| drop(alive)));
}

fn switching(accept: HeaderValue, protocol: Option<HeaderValue>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.extend(protocol.map(|protocol| (SEC_WEBSOCKET_PROTOCOL, protocol)));
    response
}

/// A connection that its room knows, and that has no socket yet. If it is dropped, for example because the
/// client hangs up, the room is told.
struct Pending(Option<(Arc<RoomCell>, Connection)>);

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some((room, connection)) = self.0.take() {
            room.closed(&connection, CloseReason::NoHandshake.close());
        }
    }
}
