use std::{net::IpAddr, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::BadHandshake;
use crate::{ErrorId, Refusal, Reject, Response, RouteError, value::respond::line};

/// Why a request is answered by the front and not by a room: all answers of the runtime itself, with status,
/// text and headers.
///
/// The text is for the client. It says what the client did, and nothing about the server.
///
/// ```
/// use partykit_core::runtime::front::Refused;
///
/// let response = Refused::NoParty.into_response();
/// assert_eq!(response.status(), 404);
/// assert_eq!(response.body().bytes().unwrap(), "no such party\n");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// 400: the request's URL is not valid.
    #[error("the URL is not valid")]
    BadUrl,
    /// 400: it is unclear which host the client asked for.
    #[error(transparent)]
    BadHost(#[from] BadHost),
    /// 400: the method is CONNECT.
    #[error("this server is not a proxy: CONNECT is not supported")]
    Connect,
    /// 421: the client asked for this host, and the server has other names.
    #[error("this server does not answer for this host")]
    ForeignHost(String),
    /// 404: the URL does not belong to a room, and there is no fallback.
    #[error("not found")]
    NotFound,
    /// 404: no party has the name in the URL.
    #[error("no such party")]
    NoParty,
    /// 404 or 400: the URL does not name a valid room.
    #[error(transparent)]
    BadRoute(#[from] RouteError),
    /// 426: a WebSocket handshake without `Upgrade`. A proxy has probably removed it.
    #[error("a WebSocket handshake needs `Upgrade: websocket` and `Connection: Upgrade`")]
    NoUpgrade,
    /// 400, or 426 for another version: the handshake breaks RFC 6455.
    #[error(transparent)]
    BadHandshake(#[from] BadHandshake),
    /// 403: pages of this origin may not open a WebSocket.
    #[error("this page may not connect here")]
    ForeignPage(String),
    /// 503: the process, or the client's address, has as many clients as it may have.
    #[error("too many clients")]
    TooManyClients,
    /// 429: this address brought too many rooms into memory. It may bring the next one after this time.
    #[error("too many new rooms")]
    TooManyNewRooms(IpAddr, Duration),
    /// 413: the body has more bytes than it may have.
    #[error("the body is too long")]
    BodyTooLong,
    /// 400: the body ended before its end.
    #[error("the body ended too early")]
    BodyBroken,
    /// 408: the body did not arrive in time.
    #[error("the body took too long")]
    BodyLate,
    /// 503: there is no memory for the body.
    #[error("the server has no memory for the body now")]
    NoSpace,
    /// 404: another Worker asks a room directly, without the front.
    #[error("rooms are behind their Worker's entry")]
    NotByEntry,
    /// The hook with this name gave this answer.
    #[error("{0} answered")]
    ByHook(&'static str, Box<Response>),
    /// A hook rejected what the client sent.
    #[error("{0}")]
    Rejected(Reject),
    /// 500: the application's code before the room, or the runtime, failed. The log has it under this id.
    #[error("the request failed, error {0}")]
    Failed(ErrorId),
    /// 503, or 500 for [`Refusal::Failed`]: the room did not answer.
    #[error("{0}")]
    ByRoom(#[from] Refusal),
}

/// Why it is unclear which host a client asked for. See [`Refused`].
///
/// ```
/// use partykit_core::runtime::front::{BadHost, Refused};
///
/// assert_eq!(Refused::from(BadHost::Missing).status(), 400);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadHost {
    /// More than one `Host` header.
    #[error("two Host headers")]
    Repeated,
    /// The `Host` header does not name a host.
    #[error("a bad Host header")]
    Malformed,
    /// An HTTP/1.1 request without a `Host` header.
    #[error("no Host header")]
    Missing,
    /// The request's target has another host than its header.
    #[error("the request's target is not its Host")]
    NotTarget,
    /// The host that a proxy names is not valid.
    #[error("a bad X-Forwarded-Host")]
    Forwarded,
}

/// The `Retry-After` for a client that finds no place or no memory.
const LATER: Duration = Duration::from_secs(5);

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

impl Refused {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadUrl | Self::BadHost(_) | Self::Connect | Self::BodyBroken => {
                StatusCode::BAD_REQUEST
            }
            Self::ForeignPage(_) => StatusCode::FORBIDDEN,
            Self::NotFound | Self::NoParty | Self::NotByEntry => StatusCode::NOT_FOUND,
            Self::BodyLate => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ForeignHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::NoUpgrade => StatusCode::UPGRADE_REQUIRED,
            Self::TooManyNewRooms(..) => StatusCode::TOO_MANY_REQUESTS,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::TooManyClients | Self::NoSpace => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadRoute(error) => error.status(),
            Self::BadHandshake(error) => error.status(),
            Self::ByHook(_, response) => response.status(),
            Self::Rejected(reject) => reject.status(),
            Self::ByRoom(refusal) => refusal.status(),
        }
    }

    /// The answer for the client.
    pub fn into_response(self) -> Response {
        match self {
            Self::ByHook(_, response) => *response,
            Self::Rejected(reject) => reject.response(),
            Self::ByRoom(refusal) => refusal.response(),
            _ => {
                let mut response = line(self.status(), &self);
                self.add_headers(response.headers_mut());
                response
            }
        }
    }

    /// Headers that tell the client what to do.
    fn add_headers(&self, headers: &mut HeaderMap) {
        match self {
            Self::NoUpgrade => drop(headers.insert(header::UPGRADE, WEBSOCKET)),
            Self::BadHandshake(BadHandshake::WebSocketVersion) => {
                headers.insert(header::UPGRADE, WEBSOCKET);
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            Self::TooManyClients | Self::NoSpace => retry_after(headers, LATER),
            Self::TooManyNewRooms(_, wait) => retry_after(headers, *wait),
            _ => {}
        }
    }
}

/// Rounds up to whole seconds.
fn retry_after(headers: &mut HeaderMap, wait: Duration) {
    headers.insert(header::RETRY_AFTER, (wait.as_secs_f64().ceil() as u64).into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_what_to_do() {
        let headers = |refused: Refused| refused.into_response().headers().clone();
        let wait = Duration::from_millis(2_001);
        let rooms = headers(Refused::TooManyNewRooms(IpAddr::from([10, 0, 0, 1]), wait));
        assert_eq!(rooms["retry-after"], "3");
        assert_eq!(headers(Refused::NoSpace)["retry-after"], "5");
        let version = headers(BadHandshake::WebSocketVersion.into());
        assert_eq!(
            (&version["upgrade"], &version["sec-websocket-version"]),
            (&HeaderValue::from_static("websocket"), &HeaderValue::from_static("13"))
        );
        assert!(!headers(Refused::NotFound).contains_key("retry-after"));
    }

    #[test]
    fn what_a_client_sent_is_not_in_the_answer() {
        for refused in [Refused::ForeignHost("evil".into()), Refused::ForeignPage("evil".into())] {
            let response = refused.into_response();
            let body = std::str::from_utf8(response.body().bytes().unwrap()).unwrap();
            assert!(!body.contains("evil"), "{body}");
        }
    }
}
