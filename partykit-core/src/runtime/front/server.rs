use std::{fmt, sync::Arc};

use futures_core::future::BoxFuture;
use http::{HeaderValue, Method, request::Parts};

use super::{
    Refused, Surroundings,
    handshake::Handshake,
    hooks::{Connecting, Welcome, admit, failed},
};
use crate::{
    Admit, Body, Handler, Lobby, Request, Result, RoomId, Route, Server,
    runtime::{RoomCell, drive},
};

/// A server without its type. `With` is what the runtime gives to the factory, beside the room's id.
///
/// ```
/// use partykit_core::{RoomId, Server, runtime::front::AnyServer};
///
/// struct Game {
///     level: u32,
/// }
/// impl Server for Game {}
///
/// let games = AnyServer::new(|_: &RoomId, level: &u32| Game { level: *level });
/// # let _: AnyServer<u32> = games;
/// ```
pub struct AnyServer<With = ()>(Box<dyn Erased<With>>);

impl<With: Send + Sync + 'static> AnyServer<With> {
    /// A server whose instances are made by `make`.
    pub fn new<S: Server>(make: impl Fn(&RoomId, &With) -> S + Send + Sync + 'static) -> Self {
        Self(Box::new(Arc::new(make)))
    }

    /// Runs a room until it sleeps, see [`drive`].
    pub fn drive(&self, room: Arc<RoomCell>, with: With) -> BoxFuture<'static, ()> {
        self.0.drive(room, with)
    }

    /// Asks `on_before_connect` about a client that wants a connection.
    ///
    /// # Errors
    ///
    /// Why the client does not get a WebSocket.
    pub async fn before_connect(
        &self,
        on: &(impl Surroundings + ?Sized),
        route: &Route,
        handshake: Handshake,
        head: Parts,
    ) -> Result<Welcome, Refused> {
        let uri = head.uri.to_string();
        let request = Request::from_parts(head, Body::empty());
        let hook = self.0.before_connect(request, lobby(on, route));
        let handler = Handler::OnBeforeConnect;
        let admission = match admit(on, route.party(), handler, false, hook).await {
            Err(Refused::Rejected(reject)) => {
                let protocol = handshake.offered.first();
                let protocol = protocol.and_then(|first| HeaderValue::from_str(first).ok());
                return Ok(Welcome::Away(reject.close(), protocol));
            }
            admission => admission?,
        };
        let protocol = match admission.chosen_protocol() {
            None => None,
            Some(chosen) if !handshake.offered.iter().any(|offered| offered == chosen) => {
                let error = format!("it chose {chosen:?}, which was not offered");
                return failed(on, handler, &error);
            }
            Some(chosen) => match HeaderValue::from_str(chosen) {
                Ok(chosen) => Some(chosen),
                Err(error) => return failed(on, handler, &error.to_string()),
            },
        };
        let id = handshake.id.map_or_else(|| fresh_id(on), |id| id.to_string());
        let request = admission.into_request();
        Ok(Welcome::In(Connecting { id, uri, request, protocol }))
    }

    /// Asks `on_before_request` about a request with its body. Returns the request for the room.
    ///
    /// # Errors
    ///
    /// Why the room does not get it.
    pub async fn before_request(
        &self,
        on: &(impl Surroundings + ?Sized),
        route: &Route,
        request: Request,
    ) -> Result<Request, Refused> {
        let is_head = request.method() == Method::HEAD;
        let hook = self.0.before_request(request, lobby(on, route));
        let admission = admit(on, route.party(), Handler::OnBeforeRequest, is_head, hook).await?;
        Ok(admission.into_request())
    }
}

impl<With> fmt::Debug for AnyServer<With> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyServer").finish_non_exhaustive()
    }
}

trait Erased<With>: Send + Sync {
    fn drive(&self, room: Arc<RoomCell>, with: With) -> BoxFuture<'static, ()>;
    fn before_connect(&self, request: Request, lobby: Lobby) -> BoxFuture<'static, Result<Admit>>;
    fn before_request(&self, request: Request, lobby: Lobby) -> BoxFuture<'static, Result<Admit>>;
}

/// `F` makes the instances.
impl<S, With, F> Erased<With> for Arc<F>
where
    S: Server,
    With: Send + Sync + 'static,
    F: Fn(&RoomId, &With) -> S + Send + Sync + 'static,
{
    fn drive(&self, room: Arc<RoomCell>, with: With) -> BoxFuture<'static, ()> {
        let make = self.clone();
        Box::pin(drive(room, move |id| make(id, &with)))
    }

    fn before_connect(&self, request: Request, lobby: Lobby) -> BoxFuture<'static, Result<Admit>> {
        Box::pin(async move { S::on_before_connect(request, &lobby).await })
    }

    fn before_request(&self, request: Request, lobby: Lobby) -> BoxFuture<'static, Result<Admit>> {
        Box::pin(async move { S::on_before_request(request, &lobby).await })
    }
}

fn lobby(on: &(impl Surroundings + ?Sized), route: &Route) -> Lobby {
    Lobby::with_vars(route.address().clone(), on.vars()).with_state(on.app_state())
}

/// 16 random bytes as text.
fn fresh_id(on: &(impl Surroundings + ?Sized)) -> String {
    let mut bytes = [0; 16];
    on.random(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes))
}
