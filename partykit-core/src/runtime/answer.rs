use http::{HeaderMap, StatusCode, header};
use tracing::error;

use crate::{Body, ErrorId, Response};

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
    crate::value::respond::line(status, line)
}

/// A failure on this side of a room: the log gets what happened and the error, the client a 500 with the
/// id under which the log has it.
///
/// `what` are words of the runtime's. `error` may be anybody's: in the log it is a field, which
/// subscribers quote, so that a line break in it begins no line.
///
/// ```
/// use partykit_core::{Response, runtime::{Host, failure}};
///
/// fn hook_failed(host: &dyn Host, error: &str) -> Response {
///     failure(|bytes| host.random(bytes), "on_before_connect failed", Some(error))
/// }
/// # let _ = hook_failed;
/// ```
pub fn failure(
    random: impl FnOnce(&mut [u8]),
    what: impl std::fmt::Display,
    error: Option<&str>,
) -> Response {
    let mut id = [0; 8];
    random(&mut id);
    let id = ErrorId::from_bytes(id);
    error!(error_id = %id, error, "{what}");
    answer(StatusCode::INTERNAL_SERVER_ERROR, format_args!("the request failed, error {id}"))
}

/// What a user's function answered, `name` for example, as the client gets it: without
/// [`INTERNAL_HEADERS`], and without a body where HTTP has none (204, 205, 304). A status outside of 200 to
/// 599 is a failure of the function: with a 101 the connection would stop to be HTTP, and not every
/// platform can send the others.
///
/// ```
/// use http::StatusCode;
/// use partykit_core::{Response, runtime::fit};
///
/// let mut response = Response::new("a body".into());
/// response.headers_mut().insert("x-partykit-mine", "1".parse()?);
/// *response.status_mut() = StatusCode::RESET_CONTENT;
/// let fitting = fit(|_| {}, "on_request", response);
/// assert!(fitting.headers().is_empty() && fitting.body().bytes().unwrap().is_empty());
///
/// let mut odd = Response::default();
/// *odd.status_mut() = StatusCode::from_u16(700)?;
/// assert_eq!(fit(|_| {}, "on_request", odd).status(), 500);
/// # Ok::<(), partykit_core::BoxError>(())
/// ```
pub fn fit(random: impl FnOnce(&mut [u8]), name: &str, mut response: Response) -> Response {
    let status = response.status();
    if !(200..600).contains(&status.as_u16()) {
        return failure(
            random,
            format_args!("{name} answered {status}, which is not an answer"),
            None,
        );
    }
    strip_internal(response.headers_mut());
    if matches!(status.as_u16(), 204 | 205 | 304) {
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response
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
