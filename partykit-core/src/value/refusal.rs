use std::time::Duration;

use crate::ErrorId;

/// Why a room did not answer a request, or did not let a connection in.
///
/// ```
/// use std::time::Duration;
/// use partykit_core::Refusal;
///
/// let answer = Refusal::Unavailable(Duration::from_secs(2)).response();
/// assert_eq!(answer.status(), 503);
/// assert_eq!(answer.headers()["retry-after"], "3");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The handler failed, or the room could not start. The log has the detail under this id.
    #[error("the room failed, error {0}")]
    Failed(ErrorId),
    /// The room has as many connections as [`Options::max_connections`](crate::Options::max_connections)
    /// allows.
    #[error("the room has reached its limit of connections")]
    Full,
    /// Too many events wait for the room already.
    #[error("the room is overloaded")]
    Overloaded,
    /// The room failed to start several times in a row. It can be tried again after this time.
    #[error("the room cannot start, try again in {0:?}")]
    Unavailable(Duration),
    /// The room is not in memory, and the server has as many rooms in memory as it may have.
    #[error("the server has reached its limit of rooms")]
    TooManyRooms,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl Refusal {
    /// The HTTP status of the answer: 500 for [`Refusal::Failed`], 503 for the others.
    pub fn status(&self) -> http::StatusCode {
        match self {
            Self::Failed(_) => http::StatusCode::INTERNAL_SERVER_ERROR,
            _ => http::StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The answer for a client: the status, a generic line with the error id if there is one, and
    /// `Retry-After` where it is known.
    pub fn response(&self) -> crate::Response {
        let mut response = crate::Response::new(format!("{self}\n").into());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert("content-type", http::HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Self::Unavailable(after) = self {
            headers.insert("retry-after", (after.as_secs() + 1).into());
        }
        response
    }
}
