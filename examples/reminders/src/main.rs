//! Serves the reminders, with their page: `cargo run -p reminders [ADDRESS]`. What it stores is in the directory
//! that `PARTYKIT_DATA` names, else in `./.partykit`.

use partykit::{
    Request, RequestExt, Response, ResponseExt, Result, Runtime,
    http::{Method, StatusCode},
    server::Handle,
};
use reminders::Reminders;

#[tokio::main]
async fn main() -> Result {
    tracing_subscriber::fmt().with_target(false).without_time().init();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1999".to_owned());
    let data = std::env::var_os("PARTYKIT_DATA").unwrap_or_else(|| ".partykit".into());
    let builder = Runtime::builder().party::<Reminders>("reminders").data(data);
    builder.fallback(answer).serve(address).await
}

/// Answers what is for no room: the page, and `POST /sleep?room=kitchen`, which need not wait for the room to be
/// idle.
async fn answer(request: Request) -> Response {
    let handle = request.extensions().get::<Handle>();
    let (Some(handle), Some(room), &Method::POST) =
        (handle, request.query("room"), request.method())
    else {
        return reminders::answer(&request);
    };
    match handle.evict("reminders", &room).await {
        Ok(()) => Response::empty(StatusCode::NO_CONTENT),
        Err(reasons) => Response::text(format!("{reasons:?}")).with_status(StatusCode::CONFLICT),
    }
}
