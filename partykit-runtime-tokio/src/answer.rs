use http::{HeaderValue, StatusCode, header};
use partykit_core::{ErrorId, Response};
use tracing::error;

use crate::host::TokioHost;

/// What the runtime itself answers: a status and a generic line, nothing about this server.
pub(crate) fn answer(status: StatusCode, line: impl std::fmt::Display) -> Response {
    let mut response = Response::new(format!("{line}\n").into());
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

/// The same, to a client with whom there is nothing more to talk about on this connection: what
/// follows its request might be anything.
pub(crate) fn hang_up(status: StatusCode, line: impl std::fmt::Display) -> Response {
    let mut response = answer(status, line);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A failure on this side of the room: the log gets the detail, the client a 500 with the id under
/// which the log has it.
pub(crate) fn failure(host: &TokioHost, detail: impl std::fmt::Display) -> Response {
    let id = ErrorId::random(host);
    error!(error_id = %id, "{detail}");
    answer(StatusCode::INTERNAL_SERVER_ERROR, format_args!("the request failed, error {id}"))
}
