//! What answers a request that is for no room.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use partykit_core::{Body, BoxError, ErrorId, Request, Response, runtime::front::Refused};
use tower_service::Service;
use tracing::error;

use super::Builder;

impl Builder {
    /// Answers requests that are not for a room, such as pages and health checks. Default: 404. The body is
    /// read completely before, up to 2 MiB. A panic is answered with 500.
    ///
    /// The request's extensions have the runtime's [`Handle`](crate::Handle), and the peer's
    /// [`SocketAddr`](std::net::SocketAddr) if it has one. Before-hooks find both there too.
    ///
    /// ```
    /// use partykit_core::{Request, Response};
    /// use partykit_runtime_tokio::{Handle, Runtime};
    ///
    /// async fn how_many(request: Request) -> Response {
    ///     let handle = request.extensions().get::<Handle>();
    ///     let lobby = handle.and_then(|handle| handle.room_stats("main", "lobby"));
    ///     let connections = lobby.map_or(0, |lobby| lobby.connections);
    ///     Response::new(format!("{connections} in the lobby").into())
    /// }
    ///
    /// let builder = Runtime::builder().fallback(how_many);
    /// # let _ = builder;
    /// ```
    pub fn fallback<F>(mut self, fallback: impl Fn(Request) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        self.fallback = Some(Arc::new(move |request| Box::pin(fallback(request))));
        self
    }

    /// The same with a service of [`tower`](https://docs.rs/tower): files by the
    /// [`ServeDir`](https://docs.rs/tower-http/latest/tower_http/services/struct.ServeDir.html) of the crate
    /// `tower-http` with its feature `fs`, a `Router` of axum, or one of your own. It is cloned for each request.
    /// If it fails, the client gets a 500 with an error id, and the log has the error under this id.
    ///
    /// A service cannot take a connection over, as for a WebSocket of its own: an answer with the status 101
    /// is a failure.
    ///
    /// ```no_run
    /// use partykit_core::{Result, Server};
    /// use partykit_runtime_tokio::Runtime;
    /// use tower_http::services::{ServeDir, ServeFile};
    ///
    /// #[derive(Default)]
    /// struct Chat;
    /// impl Server for Chat {}
    ///
    /// #[tokio::main]
    /// async fn main() -> Result {
    ///     // What is no file is a page of a single-page application.
    ///     let page = ServeDir::new("dist").fallback(ServeFile::new("dist/index.html"));
    ///     Runtime::builder().party::<Chat>("chat").fallback_service(page).serve("0.0.0.0:1999").await
    /// }
    /// ```
    pub fn fallback_service<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request, Response = http::Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let service = Mutex::new(service);
        self.fallback = Some(Arc::new(move |request| {
            // A service need not be `Sync`, and no clone of it is used twice at a time.
            let service = service.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Box::pin(answer(service, request))
        }));
        self
    }
}

async fn answer<S, B>(mut service: S, request: Request) -> Response
where
    S: Service<Request, Response = http::Response<B>>,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let answered = async {
        poll_fn(|cx| service.poll_ready(cx)).await?;
        service.call(request).await
    };
    match answered.await {
        Ok(response) => response.map(body),
        Err(error) => failed(&error.into()),
    }
}

fn body<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    match body.is_end_stream() {
        true => Body::empty(),
        false => Body::stream(body.map_err(Into::into).into_data_stream()),
    }
}

fn failed(error: &BoxError) -> Response {
    let mut id = [0; 8];
    getrandom::fill(&mut id).expect("the operating system gives random bytes");
    let (id, error) = (ErrorId::from_bytes(id), error.to_string());
    error!(error_id = %id, error = error.as_str(), "the fallback service failed");
    Refused::Failed(id).into_response()
}
