use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_core::future::BoxFuture;
use http::{HeaderValue, Method, Uri, request::Parts, uri::Authority};

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
        let (connects, requests) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Box::new(Arc::new(Made { make, connects, requests })))
    }

    /// Whether it is known that `on_before_connect` lets all clients in unchanged, because it is the default
    /// one. That is known after its first call.
    ///
    /// ```
    /// use partykit_core::{RoomId, Server, runtime::front::AnyServer};
    ///
    /// struct Open;
    /// impl Server for Open {}
    ///
    /// let server = AnyServer::new(|_: &RoomId, (): &()| Open);
    /// assert!(!server.admits_connects() && !server.admits_requests(), "not asked yet");
    /// ```
    pub fn admits_connects(&self) -> bool {
        self.0.admits_connects()
    }

    /// The same of `on_before_request`.
    pub fn admits_requests(&self) -> bool {
        self.0.admits_requests()
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

    /// Lets a client in as the default `on_before_connect` does, without a call of it. Only for a server of which
    /// [`admits_connects`](Self::admits_connects) is true.
    pub fn let_in(
        &self,
        on: &(impl Surroundings + ?Sized),
        handshake: Handshake,
        head: Parts,
    ) -> Connecting {
        debug_assert!(self.admits_connects(), "its hook has to be asked");
        let uri = text(&head.uri);
        let id = handshake.id.unwrap_or_else(|| fresh_id(on));
        let request = Request::from_parts(head, Body::empty());
        Connecting { id, uri, request, protocol: None }
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
    fn admits_connects(&self) -> bool;
    fn admits_requests(&self) -> bool;
}

struct Made<F> {
    /// Makes the instances.
    make: F,
    /// Whether `on_before_connect` is known to be the default one.
    connects: AtomicBool,
    /// Whether `on_before_request` is.
    requests: AtomicBool,
}

impl<S, With, F> Erased<With> for Arc<Made<F>>
where
    S: Server,
    With: Send + Sync + 'static,
    F: Fn(&RoomId, &With) -> S + Send + Sync + 'static,
{
    fn drive(&self, room: Arc<RoomCell>, with: With) -> BoxFuture<'static, ()> {
        let made = self.clone();
        // The memory comes first, so that the future is made in its place and not moved there.
        let place = Box::new_uninit();
        let driving = Box::write(place, drive(room, move |id| (made.make)(id, &with)));
        Box::into_pin(driving)
    }

    fn before_connect(&self, request: Request, lobby: Lobby) -> BoxFuture<'static, Result<Admit>> {
        let made = self.clone();
        Box::pin(async move {
            let answer = S::on_before_connect(request, &lobby).await;
            note::<S>(&made.connects, &answer);
            answer
        })
    }

    fn before_request(&self, request: Request, lobby: Lobby) -> BoxFuture<'static, Result<Admit>> {
        let made = self.clone();
        Box::pin(async move {
            let answer = S::on_before_request(request, &lobby).await;
            note::<S>(&made.requests, &answer);
            answer
        })
    }

    fn admits_connects(&self) -> bool {
        self.connects.load(Ordering::Relaxed)
    }

    fn admits_requests(&self) -> bool {
        self.requests.load(Ordering::Relaxed)
    }
}

/// A server has one hook of each kind: what is true of one answer is true of all.
fn note<S: Server>(admits: &AtomicBool, answer: &Result<Admit>) {
    if answer.as_ref().is_ok_and(Admit::is_by_default_of::<S>) {
        admits.store(true, Ordering::Relaxed);
    }
}

fn lobby(on: &(impl Surroundings + ?Sized), route: &Route) -> Lobby {
    Lobby::with_vars(route.address().clone(), on.vars()).with_state(on.app_state())
}

/// A URI as text, as it is displayed, in one piece.
fn text(uri: &Uri) -> String {
    let (scheme, colon) = uri.scheme_str().map_or(("", ""), |scheme| (scheme, "://"));
    let host = uri.authority().map_or("", Authority::as_str);
    let (mark, query) = uri.query().map_or(("", ""), |query| ("?", query));
    let parts = [scheme, colon, host, uri.path(), mark, query];
    let mut text = String::with_capacity(parts.iter().map(|part| part.len()).sum());
    parts.into_iter().for_each(|part| text.push_str(part));
    text
}

/// 16 random bytes as text.
fn fresh_id(on: &(impl Surroundings + ?Sized)) -> ConnectionId {
    let mut bytes = [0; 16];
    on.random(&mut bytes);
    ConnectionId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::{Admission, RoomAddress};

    struct Open;
    impl Server for Open {}

    /// Lets all in, by code of its own.
    struct Own;
    impl Server for Own {
        async fn on_before_connect(request: Request, _: &Lobby) -> Result<Admit> {
            Ok(Admission::new(request).into())
        }
    }

    /// Passes on what another server answers, which may depend on the request.
    struct Around;
    impl Server for Around {
        async fn on_before_connect(request: Request, lobby: &Lobby) -> Result<Admit> {
            Open::on_before_connect(request, lobby).await
        }
    }

    /// Whether it is known of the hooks that they are the default, after each has been called.
    fn known<S: Server>(make: fn() -> S) -> (bool, bool) {
        let server = AnyServer::new(move |_: &RoomId, (): &()| make());
        assert!(!server.admits_connects() && !server.admits_requests());
        let lobby = || Lobby::new(RoomAddress::new("a", RoomId::new("b").unwrap()), |_| None);
        let asked = server.0.before_connect(Request::default(), lobby()).now_or_never();
        assert!(matches!(asked, Some(Ok(Admit::Continue(_)))));
        let connects = server.admits_connects();
        assert!(!server.admits_requests(), "that hook was not called");
        let asked = server.0.before_request(Request::default(), lobby()).now_or_never();
        assert!(matches!(asked, Some(Ok(Admit::Continue(_)))));
        (connects, server.admits_requests())
    }

    #[test]
    fn the_text_of_a_uri_is_what_is_displayed() {
        for uri in
            ["http://h.com/a?b=c", "http://h.com", "/", "/a?", "*", "h.com", "https://[::1]:1/?a"]
        {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(text(&uri), uri.to_string());
        }
    }

    #[test]
    fn only_the_servers_own_default_hook_is_known_to_let_all_in() {
        assert_eq!(known(|| Open), (true, true));
        assert_eq!(known(|| Own), (false, true));
        assert_eq!(known(|| Around), (false, true));
    }
}
