//! The relay as a Worker, with its page: `cargo xtask workers build relay`.

#[path = "page.rs"]
mod page;

use partykit::{
    Request, Response, ResponseExt,
    http::{Method, StatusCode},
    workers::Settings,
};

use crate::Relay;

partykit::workers::export! {
    Relay as "main";
    Settings::new().fallback(async |request, _env| answer(&request))
}

/// Answers requests that are not for a room.
fn answer(request: &Request) -> Response {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => Response::html(page::html()),
        // On Workers, a question would wake the room, so there is no answer about a sleeping room.
        (&Method::GET, "/stats") => {
            let unknown = r#"{"phase":"unknown","connections":0}"#;
            let json = Response::builder().header("content-type", "application/json");
            json.body(unknown.into()).unwrap_or_default()
        }
        _ => Response::text("not found").with_status(StatusCode::NOT_FOUND),
    }
}
