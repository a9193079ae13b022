//! Serves the documents of the tests in `dev/yjs`: `yjs-peer ADDRESS`, with its data where `PARTYKIT_DATA` says.

use partykit::{
    Request, RequestExt, Response, ResponseExt, Result, Runtime, http::StatusCode, server::Handle,
};
use yjs_peer::Documents;

#[tokio::main]
async fn main() -> Result {
    tracing_subscriber::fmt().with_target(false).without_time().init();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let data = std::env::var_os("PARTYKIT_DATA").ok_or("PARTYKIT_DATA is not set")?;
    let documents = Runtime::builder().party::<Documents>("main").data(data);
    documents.fallback(sleep).serve(address).await
}

/// `POST /sleep?room=notes` puts a room to sleep now.
async fn sleep(request: Request) -> Response {
    let handle = request.extensions().get::<Handle>();
    let (Some(handle), Some(room)) = (handle, request.query("room")) else {
        return Response::empty(StatusCode::NOT_FOUND);
    };
    match handle.evict("main", &room).await {
        Ok(()) => Response::empty(StatusCode::NO_CONTENT),
        Err(reasons) => Response::text(format!("{reasons:?}")).with_status(StatusCode::CONFLICT),
    }
}
