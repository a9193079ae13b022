//! The page at `/`, and its files.

use partykit::{
    Request, Response, ResponseExt,
    http::{Method, StatusCode},
};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Each file's path, kind and text. `partysocket` is the npm package of that name, unchanged, as the chat has it.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/room.js", SCRIPT, include_str!("page/room.js")),
    ("/view.js", SCRIPT, include_str!("page/view.js")),
    ("/partysocket/index.js", SCRIPT, include_str!("../../chat/src/page/partysocket/index.js")),
    ("/partysocket/ws.js", SCRIPT, include_str!("../../chat/src/page/partysocket/ws.js")),
];

/// Answers requests that are not for a room.
pub fn answer(request: &Request) -> Response {
    let path = request.uri().path();
    let found = FILES.iter().find(|(name, ..)| *name == path && request.method() == Method::GET);
    match found {
        Some((_, kind, text)) => Response::content(kind, *text),
        None => Response::text("not found\n").with_status(StatusCode::NOT_FOUND),
    }
}
