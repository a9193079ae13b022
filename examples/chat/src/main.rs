//! Serves the chat, with its page: `cargo run -p chat [ADDRESS]`. What it stores is in the directory that
//! `PARTYKIT_DATA` names, else in `./.partykit`.

mod page;

use chat::Chat;
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
    Runtime::builder().party::<Chat>("chat").data(data).fallback(answer).serve(address).await
}

/// Answers what is for no room: the page, and `POST /sleep?room=lounge`, which need not wait for the room to
/// be idle.
async fn answer(request: Request) -> Response {
    let handle = request.extensions().get::<Handle>();
    let (Some(handle), Some(room), &Method::POST) =
        (handle, request.query("room"), request.method())
    else {
        return page::answer(&request);
    };
    match handle.evict("chat", &room).await {
        Ok(()) => Response::empty(StatusCode::NO_CONTENT),
        Err(reasons) => Response::text(format!("{reasons:?}")).with_status(StatusCode::CONFLICT),
    }
}
