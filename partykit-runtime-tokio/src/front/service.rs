use std::{
    convert::Infallible,
    fmt,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use partykit_core::{BoxError, Response};
use tower_service::Service;

use super::{Front, arrival::boxed};
use crate::ingress::{Ingress, release_wrapped};

/// A [`Runtime`](crate::Runtime) as a part of another server, made by
/// [`Runtime::service`](crate::Runtime::service). Clones share the runtime.
///
/// # In axum
///
/// The runtime needs the complete path of a room's URL. `fallback_service` and `route_service` pass it on.
/// `nest_service` removes its prefix, so build the runtime with the rest of the path as its prefix:
///
/// ```
/// use axum::{Router, routing::get};
/// use partykit_core::Server;
/// use partykit_runtime_tokio::Runtime;
///
/// #[derive(Default)]
/// struct Chat;
/// impl Server for Chat {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> partykit_core::Result {
/// let rooms = Runtime::builder().party::<Chat>("chat").in_memory().build()?;
/// let app: Router = Router::new()
///     .route("/health", get(async || "well"))
///     .route_service("/parties/{*rest}", rooms.service());
/// // Or, so that requests for no room get the runtime's own fallback:
/// let app: Router = Router::new().fallback_service(rooms.service());
///
/// // Here a room is seen as /chat/lobby from inside, as /live/chat/lobby from outside.
/// let nested = Runtime::builder().party::<Chat>("chat").prefix("").in_memory().build()?;
/// let app: Router = Router::new().nest_service("/live", nested.service());
/// # Ok(())
/// # }
/// ```
///
/// # What the server around it has to do
///
/// * It has to serve HTTP/1.1 with upgrades, as `axum::serve` does. WebSockets over HTTP/2 do not work.
/// * It has to limit the time and the size of a request's head, and to set `TCP_NODELAY`.
/// * It has to call [`Handle::shutdown`](crate::Handle::shutdown) beside its own graceful shutdown, because
///   it does not know the WebSockets of the runtime.
///
/// Before-hooks and handlers see the request's extensions, so a layer can put the user there. A
/// [`SocketAddr`](std::net::SocketAddr) in them counts as the client's address.
///
/// A connection needs more memory than with [`Runtime::serve`](crate::Runtime::serve), because it keeps the
/// other server's buffers.
#[derive(Clone)]
pub struct RuntimeService {
    front: Arc<Front>,
    is_encrypted: bool,
}

impl RuntimeService {
    pub(crate) fn new(front: Arc<Front>) -> Self {
        Self { front, is_encrypted: false }
    }

    /// Says that the server around it speaks TLS, so that the URLs of requests begin with `https`.
    #[must_use]
    pub fn encrypted(self) -> Self {
        Self { is_encrypted: true, ..self }
    }
}

impl<B> Service<http::Request<B>> for RuntimeService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let front = self.front.clone();
        let ingress = Ingress {
            peer: request.extensions().get::<SocketAddr>().copied(),
            is_encrypted: self.is_encrypted,
            keeps_extensions: true,
            release: release_wrapped,
        };
        let request = boxed(request);
        Box::pin(async move {
            let _alive = front.shutdown.http();
            Ok(front.clone().answer_http(request, ingress, None).await)
        })
    }
}

impl fmt::Debug for RuntimeService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeService").field("front", &self.front).finish()
    }
}
