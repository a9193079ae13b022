use std::{
    future::{poll_fn, ready},
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready as ready_or_return},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::Either};
use http::{
    HeaderValue, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
use partykit_core::{
    Body, Close, Refusal, Response, Route,
    runtime::{
        CloseReason, ConnectionKey, RoomCell,
        front::{Connecting, Handshake, Refused, Welcome},
    },
};
use tokio::io::AsyncWrite;
use tracing::debug;

use super::{Front, arrival::Arrival, young::in_own_task};
use crate::{
    codec::{self, ACCEPT},
    farewell,
    ingress::{Ingress, Transport},
    party::Party,
    shutdown::Alive,
    socket::{self, Link, Verdict, scratch},
};

/// The beginning of a 101.
const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
    connection: Upgrade\r\nsec-websocket-accept: ";

/// A handshake that was accepted. [Send](Self::send) the 101, then [`start`](Self::start) it. If it is dropped before, for
/// example because the client hangs up, the room is told.
pub(super) struct Switch {
    accept: [u8; ACCEPT],
    /// The sub-protocol that was chosen.
    protocol: Option<HeaderValue>,
    role: Role,
    alive: Alive,
}

/// What the WebSocket is for.
enum Role {
    /// A connection of a room.
    Join(Arc<Link>, Pending),
    /// It is only opened for this Close.
    Leave(Close),
}

/// What is known of a handshake before its hook is asked.
#[derive(Clone, Copy)]
struct Begun {
    accept: [u8; ACCEPT],
    /// The client's address, if the limit on new rooms is on.
    client: Option<IpAddr>,
    /// The client's address, if the limit on messages from one address is on.
    talker: Option<IpAddr>,
}

impl Front {
    /// Asks the hook and then the room. The future holds little of the request, so it is small.
    pub(super) fn connect<'a>(
        &'a self,
        party: &'a Party,
        route: Route,
        handshake: Handshake,
        arrival: Arrival,
    ) -> impl Future<Output = Result<Switch, Refused>> + Send + 'a {
        let begun = match self.begin(party, &arrival) {
            Ok(begun) => begun,
            Err(refused) => return Either::Left(ready(Err(refused))),
        };
        let asked = party.server().before_connect(&*self.host, &route, handshake, arrival.head);
        // A hook may block its thread, and then no other client would be accepted.
        let asked = in_own_task(!party.server().admits_connects(), asked);
        Either::Right(asked.then(move |welcome| {
            let entered = self.enter(party, &route, begun, welcome);
            async move {
                let asked = entered?;
                let verdict = poll_fn(|cx| asked.poll(cx)).await;
                self.conclude(asked, &verdict)
            }
        }))
    }

    /// The same for a server with the default hook, which is not asked, up to the room's answer.
    pub(super) fn enter_unasked(
        &self,
        party: &Party,
        route: &Route,
        handshake: Handshake,
        arrival: Arrival,
    ) -> Result<Asked, Refused> {
        let begun = self.begin(party, &arrival)?;
        let connecting = party.server().let_in(&*self.host, handshake, arrival.head);
        self.enter(party, route, begun, Ok(Welcome::In(connecting)))
    }

    fn begin(&self, party: &Party, arrival: &Arrival) -> Result<Begun, Refused> {
        if !self.has_place(arrival) {
            return Err(Refused::TooManyClients);
        }
        let key = Handshake::key(&arrival.head, arrival.body.is_end_stream())?;
        let counts = party.link().pace.by_address.is_some();
        Ok(Begun {
            accept: codec::accept_key(key),
            client: self.room_rate.address(&arrival.head),
            talker: counts.then(|| self.room_rate.client(&arrival.head)).flatten(),
        })
    }

    /// Asks the room.
    fn enter(
        &self,
        party: &Party,
        route: &Route,
        begun: Begun,
        welcome: Result<Welcome, Refused>,
    ) -> Result<Asked, Refused> {
        let Begun { accept, client, talker } = begun;
        let Connecting { id, uri, request, protocol } = match welcome? {
            Welcome::In(connecting) => connecting,
            Welcome::Away(..) if self.shutdown.is_under_way() => {
                return Err(Refusal::ShuttingDown.into());
            }
            Welcome::Away(close, protocol) => {
                return Ok(Asked { accept, protocol, role: Role::Leave(close) });
            }
        };
        self.count_if_new(route, client)?;
        let link = Link::new(party.link());
        if let Some(address) = talker {
            link.set_address(address);
        }
        let entered = self.host.enter(party, route.address(), |cell| {
            let connected = cell.connect(id, uri, request, link.clone());
            connected.map(|connection| (cell.clone(), connection))
        });
        let pending = Pending(Some(entered??));
        Ok(Asked { accept, protocol, role: Role::Join(link, pending) })
    }

    /// Takes the answer of the room. In both cases, the handshake is answered with 101.
    pub(super) fn conclude(&self, asked: Asked, verdict: &Verdict) -> Result<Switch, Refused> {
        let Asked { accept, protocol, role } = asked;
        // During a shutdown, connections end with their next answer and cannot become WebSockets.
        if matches!(role, Role::Join(..)) && self.shutdown.is_under_way() {
            return Err(Refusal::ShuttingDown.into());
        }
        if let Verdict::Refuse(close) = verdict {
            let (code, reason) = (u16::from(close.code()), close.reason());
            debug!(code, reason, "the room refused the connection");
        }
        Ok(Switch { accept, protocol, role, alive: self.shutdown.socket() })
    }
}

/// A handshake that the hook has let in.
pub(super) struct Asked {
    accept: [u8; ACCEPT],
    protocol: Option<HeaderValue>,
    role: Role,
}

impl Asked {
    /// Ready when the room has answered, once.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Verdict> {
        match &self.role {
            Role::Join(link, _) => link.poll_verdict(cx),
            Role::Leave(_) => Poll::Ready(Verdict::Accept),
        }
    }
}

impl Switch {
    /// Sends the 101.
    pub(super) async fn send(&self, io: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let parts: [&[u8]; 4] = match &self.protocol {
            Some(protocol) => {
                [HEAD, &self.accept, b"\r\nsec-websocket-protocol: ", protocol.as_bytes()]
            }
            None => [HEAD, &self.accept, b"", b""],
        };
        let mut sent = 0;
        poll_fn(|cx| {
            scratch::with(|buffer| {
                // A protocol is a part of a head, so the buffer has space for it.
                let mut length = 0;
                for part in parts.into_iter().chain([&b"\r\n\r\n"[..]]) {
                    buffer[length..length + part.len()].copy_from_slice(part);
                    length += part.len();
                }
                while sent < length {
                    match ready_or_return!(
                        Pin::new(&mut *io).poll_write(cx, &buffer[sent..length])
                    )? {
                        0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                        written => sent += written,
                    }
                }
                Poll::Ready(Ok::<_, io::Error>(()))
            })
        })
        .await?;
        poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await
    }

    /// Runs the WebSocket. It lives as long as the client stays, so it holds nothing of the request. `read` is
    /// what the client sent behind its handshake.
    pub(super) fn start(self, io: Transport, read: Bytes) {
        let alive = self.alive;
        match self.role {
            Role::Join(link, mut pending) => {
                let Some((room, connection)) = pending.0.take() else { return };
                socket::open(io, read, link, room, connection, alive);
            }
            Role::Leave(close) => {
                tokio::spawn(async move {
                    farewell::say(io.into_io(), &close).await;
                    drop(alive);
                });
            }
        }
    }

    /// The 101 for hyper, and what is to be done when it is sent.
    pub(super) fn into_response(
        self,
        upgrade: OnUpgrade,
        ingress: Ingress,
    ) -> (Response, impl Future<Output = ()> + Send + 'static) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        // It is base64, so it is a header's value.
        headers.extend(HeaderValue::from_bytes(&self.accept).map(|it| (SEC_WEBSOCKET_ACCEPT, it)));
        let protocol = self.protocol.clone();
        headers.extend(protocol.map(|protocol| (SEC_WEBSOCKET_PROTOCOL, protocol)));
        let when_sent = async move {
            match upgrade.await {
                Ok(upgraded) => {
                    let (io, read) = (ingress.release)(upgraded);
                    self.start(io, read);
                }
                Err(error) => debug!("the client left before the upgrade: {error}"),
            }
        };
        (response, when_sent)
    }
}

/// A connection that its room knows, and that has no socket yet. If it is dropped, for example because the
/// client hangs up, the room is told.
struct Pending(Option<(Arc<RoomCell>, ConnectionKey)>);

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some((room, connection)) = self.0.take() {
            room.closed(connection, CloseReason::NoHandshake.close());
        }
    }
}
