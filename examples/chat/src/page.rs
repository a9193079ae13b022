//! The page at `/`, and its files.

use partykit::{
    Request, Response,
    http::{
        Method, StatusCode,
        header::{CONTENT_TYPE, HeaderValue},
    },
};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Each file's path, kind and text. `partysocket` is the npm package of that name, unchanged.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/room.js", SCRIPT, include_str!("page/room.js")),
    ("/view.js", SCRIPT, include_str!("page/view.js")),
    ("/partysocket/index.js", SCRIPT, include_str!("page/partysocket/index.js")),
    ("/partysocket/ws.js", SCRIPT, include_str!("page/partysocket/ws.js")),
];

/// Answers what is for no room.
pub(crate) fn answer(request: &Request) -> Response {
    let path = request.uri().path();
    let found = FILES.iter().find(|(name, ..)| *name == path && request.method() == Method::GET);
    let (status, kind, text) = match found {
        Some((_, kind, text)) => (StatusCode::OK, *kind, *text),
        None => (StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "not found\n"),
    };
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
