//! The page at `/`, and its files.

use partykit::{
    Request, Response, ResponseExt,
    http::{Method, StatusCode},
};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Each file's path, kind and text. `editor.js` is made of npm packages by `web/build.mjs`.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/editor.js", SCRIPT, include_str!("page/editor.js")),
    ("/licences.txt", "text/plain; charset=utf-8", include_str!("page/licences.txt")),
];

/// Answers requests that are not for a room.
pub(crate) fn answer(request: &Request) -> Response {
    let path = request.uri().path();
    let found = FILES.iter().find(|(name, ..)| *name == path && request.method() == Method::GET);
    match found {
        Some((_, kind, text)) => Response::content(kind, *text),
        None => Response::text("not found\n").with_status(StatusCode::NOT_FOUND),
    }
}
