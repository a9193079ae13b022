//! Serves the editor, with its page: `cargo run -p editor [ADDRESS]`. It stores in the directory of the
//! variable `PARTYKIT_DATA`. Default: `./.partykit`.

mod page;

use editor::Documents;
use partykit::{
    Request, RequestExt, Response, ResponseExt, Result, Runtime,
    http::{Method, StatusCode},
    server::Handle,
};

#[tokio::main]
async fn main() -> Result {
    tracing_subscriber::fmt().with_target(false).without_time().init();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1999".to_owned());
    let data = std::env::var_os("PARTYKIT_DATA").unwrap_or_else(|| ".partykit".into());
    let documents = Runtime::builder().party::<Documents>("main").data(data);
    documents.fallback(answer).serve(address).await
}

/// Answers requests that are not for a room: the page, and `POST /sleep?room=notes`, which puts a room to
/// sleep at once.
async fn answer(request: Request) -> Response {
    let handle = request.extensions().get::<Handle>();
    let (Some(handle), Some(room), &Method::POST) =
        (handle, request.query("room"), request.method())
    else {
        return page::answer(&request);
    };
    match handle.evict("main", &room).await {
        Ok(()) => Response::empty(StatusCode::NO_CONTENT),
        Err(reasons) => Response::text(format!("{reasons:?}")).with_status(StatusCode::CONFLICT),
    }
}
