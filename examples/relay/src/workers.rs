//! The relay as a Worker, with its page: `cargo xtask workers build relay`.

#[path = "page.rs"]
mod page;

use partykit::{
    Request, Response,
    http::{Method, StatusCode, header::CONTENT_TYPE},
    workers::Settings,
};

use crate::Relay;

partykit::workers::export! {
    Relay as "main";
    Settings::new().fallback(async |request, _env| answer(&request))
}

/// Answers what is for no room.
fn answer(request: &Request) -> Response {
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => (StatusCode::OK, "text/html; charset=utf-8", page::html()),
        // A room that is asked how it is wakes: nobody can say.
        (&Method::GET, "/stats") => {
            let unknown = r#"{"phase":"unknown","connections":0}"#;
            (StatusCode::OK, "application/json", unknown.to_owned())
        }
        _ => (StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "not found".to_owned()),
    };
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, partykit::http::HeaderValue::from_static(kind));
    response
}
