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
use crate::listen::{Ingress, release_wrapped};

/// A [`Runtime`](crate::Runtime) as a part of another server: made by
/// [`Runtime::service`](crate::Runtime::service), clones are the same.
///
/// # In axum
///
/// A room's address has to arrive whole. `fallback_service` and `route_service` leave it so; `nest_service`
/// takes its prefix away, and then the runtime has to be built with what is left:
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
/// * To serve HTTP/1.1 with upgrades, as `axum::serve` does; a WebSocket cannot come over HTTP/2.
/// * To bound the time and the size of a request's head, and to set `TCP_NODELAY`.
/// * To call [`Handle::shutdown`](crate::Handle::shutdown) beside its own graceful shutdown: WebSockets
///   are the runtime's, the server around it knows nothing of them.
///
/// The request's extensions reach the before-hooks and handlers: a layer may put who is asking there. A
/// [`SocketAddr`](std::net::SocketAddr) among them counts as the client's address.
///
/// A connection costs more memory than with [`Runtime::serve`](crate::Runtime::serve): the other
/// server's wrapping stays around it.
#[derive(Clone)]
pub struct RuntimeService {
    front: Arc<Front>,
    is_encrypted: bool,
}

impl RuntimeService {
    pub(crate) fn new(front: Arc<Front>) -> Self {
        Self { front, is_encrypted: false }
    }

    /// Says that the server around it speaks TLS: the addresses of requests begin with `https`.
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
            Ok(front.clone().answer(request, ingress).await)
        })
    }
}

impl fmt::Debug for RuntimeService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeService").field("front", &self.front).finish()
    }
}
