use http::{HeaderMap, HeaderValue, StatusCode, header};
use tracing::error;

use crate::{ErrorId, Response};

/// Headers with this prefix are PartyKit's own, between its parts. None comes from outside.
pub const INTERNAL_HEADERS: &str = "x-partykit-";

/// What a runtime itself answers: a status and a generic line, nothing about the server.
///
/// ```
/// use http::StatusCode;
/// use partykit_core::runtime::answer;
///
/// let response = answer(StatusCode::NOT_FOUND, "no such party");
/// assert_eq!(response.body().bytes().unwrap(), "no such party\n");
/// ```
pub fn answer(status: StatusCode, line: impl std::fmt::Display) -> Response {
    let mut response = Response::new(format!("{line}\n").into());
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

/// A failure on this side of a room: the log gets the detail, the client a 500 with the id under which
/// the log has it.
///
/// ```
/// use partykit_core::{Response, runtime::{Host, failure}};
///
/// fn hook_failed(host: &dyn Host, error: &str) -> Response {
///     failure(|bytes| host.random(bytes), format_args!("on_before_connect failed: {error}"))
/// }
/// # let _ = hook_failed;
/// ```
pub fn failure(random: impl FnOnce(&mut [u8]), detail: impl std::fmt::Display) -> Response {
    let mut id = [0; 8];
    random(&mut id);
    let id = ErrorId(u64::from_le_bytes(id));
    error!(error_id = %id, "{detail}");
    answer(StatusCode::INTERNAL_SERVER_ERROR, format_args!("the request failed, error {id}"))
}

/// Removes the [`INTERNAL_HEADERS`] that a client has sent.
///
/// ```
/// use http::HeaderMap;
/// use partykit_core::runtime::strip_internal;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("x-partykit-props", "{}".parse().unwrap());
/// headers.insert("cookie", "a=1".parse().unwrap());
/// strip_internal(&mut headers);
/// assert_eq!(headers.len(), 1);
/// ```
pub fn strip_internal(headers: &mut HeaderMap) {
    let internal = headers.keys().filter(|name| name.as_str().starts_with(INTERNAL_HEADERS));
    for name in internal.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
}
