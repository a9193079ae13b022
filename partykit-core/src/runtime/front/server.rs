use std::{
    fmt::{self, Write},
    sync::Arc,
};

use futures_core::future::BoxFuture;
use http::{HeaderValue, Method, Uri, request::Parts};

use super::{
    Refused, Surroundings,
    handshake::Handshake,
    hooks::{Connecting, Welcome, admit, failed},
};
use crate::{
    Admit, Body, ConnectionId, Handler, Lobby, Request, Result, RoomId, Route, Server,
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

    /// Asks `on_before_connect` about a client that wants a connection. The future does not hold the head, so it
    /// is small.
    ///
    /// # Errors
    ///
    /// Why the client does not get a WebSocket.
    pub fn before_connect<'on, On: Surroundings + ?Sized>(
        &self,
        on: &'on On,
        route: &Route,
        handshake: Handshake,
        head: Parts,
    ) -> impl Future<Output = Result<Welcome, Refused>> + Send + use<'on, With, On> {
        let uri = text(&head.uri);
        let request = Request::from_parts(head, Body::empty());
        let hook = self.0.before_connect(request, lobby(on, route));
        let address = route.address().clone();
        let handler = Handler::OnBeforeConnect;
        async move {
            let admission = match admit(on, address.party(), handler, false, hook).await {
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
            let id = handshake.id.unwrap_or_else(|| fresh_id(on));
            let request = admission.into_request();
            Ok(Welcome::In(Connecting { id, uri, request, protocol }))
        }
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

/// A URI as text, in one piece.
fn text(uri: &Uri) -> String {
    let scheme = uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len());
    let host = uri.authority().map_or(0, |authority| authority.as_str().len());
    let path = uri.path_and_query().map_or(1, |path| path.as_str().len());
    let mut text = String::with_capacity(scheme + host + path);
    // Writing into a text cannot fail.
    let _ = write!(text, "{uri}");
    text
}

/// 16 random bytes as text.
fn fresh_id(on: &(impl Surroundings + ?Sized)) -> ConnectionId {
    let mut bytes = [0; 16];
    on.random(&mut bytes);
    ConnectionId::from_bytes(bytes)
}
