use http::{HeaderValue, StatusCode, header};
use partykit_core::{
    Response,
    runtime::{self, Host},
};

use crate::host::TokioHost;

pub(crate) use partykit_core::runtime::answer;

/// An answer to a client with whom there is nothing more to talk about on this connection: what follows
/// its request might be anything.
pub(crate) fn hang_up(status: StatusCode, line: impl std::fmt::Display) -> Response {
    let mut response = answer(status, line);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A failure on this side of the room, see [`runtime::failure`].
pub(crate) fn failure(
    host: &TokioHost,
    what: impl std::fmt::Display,
    error: Option<&str>,
) -> Response {
    runtime::failure(|bytes| host.random(bytes), what, error)
}
