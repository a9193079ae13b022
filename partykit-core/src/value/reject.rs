use std::{borrow::Cow, error::Error, fmt};

use http::StatusCode;
use serde::de::DeserializeOwned;

use crate::{Close, CloseCode, Response, value::respond::line};

/// The answer to a client that sent something wrong, as an error for `?`.
///
/// What a client sent wrongly is not a failure of the server. A handler that returns a `Reject` is rolled
/// back like one that fails, but the room's instance stays, `on_error` does not run, and the log has one
/// line at the level `debug`. [`Account::rejected`](crate::Account::rejected) counts it. What the client
/// sees depends on the handler:
///
/// | handler | the client gets |
/// |---|---|
/// | `on_request`, `on_before_request` | the status, and the text as a line of plain text |
/// | `on_connect`, `connection_tags`, `on_before_connect` | an open WebSocket, and then a Close with the close code and the text |
/// | `on_message`, `on_close` | nothing: the event is dropped |
///
/// In `on_start`, `on_alarm`, `on_schedule`, `on_task` and `on_error` there is no client, so a `Reject` is an error like
/// any other.
///
/// The close code is 4000 plus the status: 4400 for a bad request, 4401 for a user who is not logged in. A
/// page cannot see the status of a refused WebSocket, but it can see a close code.
///
/// Reading what a client sent gives this error already: [`Message::json`](crate::Message::json),
/// [`RequestExt::json`](crate::RequestExt::json), [`RequestExt::query_as`](crate::RequestExt::query_as),
/// [`Connection::query_as`](crate::Connection::query_as). For other errors, and for an `Option`, there is
/// [`OrReject`].
///
/// Fields of the server are not rolled back. So read what the client sent before you change a field.
///
/// ```
/// use partykit_core::{Connection, Message, OrReject, Reject, Result, Room, Server};
///
/// #[derive(Default)]
/// struct Auction;
///
/// impl Server for Auction {
///     async fn on_message(&mut self, room: &Room, bidder: &Connection, message: Message) -> Result {
///         let bid: u64 = message.text()?.parse().or_reject("a bid is a number")?;
///         let highest = room.storage().get("highest").await?.unwrap_or(0);
///         if bid <= highest {
///             return Err(Reject::conflict("another user bids more").into());
///         }
///         room.storage().put("highest", &bid)?;
///         room.broadcast(format!("{} bids {bid}", bidder.id())).send();
///         Ok(())
///     }
/// }
/// ```
///
/// An error type of your own may hold it: it is found as the error's
/// [`source`](std::error::Error::source), also through `#[error(transparent)]` and through `anyhow`.
#[derive(Clone)]
pub struct Reject(Box<Rejection>);

#[derive(Clone)]
struct Rejection {
    status: StatusCode,
    text: Cow<'static, str>,
    code: CloseCode,
}

impl Reject {
    /// A status from 400 to 599, and a text for the client. Any other status becomes 400.
    ///
    /// The text is one short line for people. A Close has space for 123 bytes of it.
    pub fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        let is_error = (400..600).contains(&status.as_u16());
        let status = if is_error { status } else { StatusCode::BAD_REQUEST };
        let code = CloseCode::from(4000 + status.as_u16());
        Self(Box::new(Rejection { status, text: text.into(), code }))
    }

    /// 400: what the client sent is wrong.
    pub fn bad_request(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 401: the client has to log in first.
    pub fn unauthorized(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, text)
    }

    /// 403: this client may not do this.
    pub fn forbidden(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// 404: there is no such thing.
    pub fn not_found(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 409: this does not fit the current state of the room.
    pub fn conflict(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, text)
    }

    /// Sets another close code than 4000 plus the status. A code that may not be sent is ignored: see
    /// [`CloseCode::is_sendable`].
    #[must_use]
    pub fn close_code(mut self, code: impl Into<CloseCode>) -> Self {
        let code = code.into();
        if code.is_sendable() {
            self.0.code = code;
        }
        self
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The text for the client.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The answer to a request: the status, and the text as a line.
    pub fn response(&self) -> Response {
        line(self.0.status, &*self.0.text)
    }

    /// The Close for a connection: the close code, and as much of the text as fits.
    pub fn close(&self) -> Close {
        Close::fixed(self.0.code, shorten(&self.0.text, Close::MAX_REASON))
    }

    /// The `Reject` in an error: the error itself, or one of its sources.
    ///
    /// ```
    /// use partykit_core::{BoxError, Reject};
    ///
    /// let error: BoxError = Reject::not_found("no such poll").into();
    /// assert_eq!(Reject::find(&*error).unwrap().status(), 404);
    /// assert!(Reject::find(&std::fmt::Error).is_none());
    /// ```
    pub fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(reject) = error.downcast_ref::<Self>() {
                return Some(reject.clone());
            }
            if let Some(rejection) = error.downcast_ref::<Rejection>() {
                return Some(Self(Box::new(rejection.clone())));
            }
            next = error.source();
        }
        None
    }

    /// Reads JSON that a client sent. `what` names it for the error: "the message".
    pub(crate) fn read_json<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, Self> {
        serde_json::from_slice(json).map_err(|error| match error.is_data() {
            true => Self::unreadable(what, "does not fit", error),
            false => Self::unreadable(what, "is not JSON", error),
        })
    }

    /// Reads a query that a client sent.
    pub(crate) fn read_query<T: DeserializeOwned>(query: Option<&str>) -> Result<T, Self> {
        serde_html_form::from_str(query.unwrap_or_default())
            .map_err(|error| Self::unreadable("the query", "does not fit", error))
    }

    /// Makes the answer from an error whose text may contain what the client sent, at any length.
    fn unreadable(what: &str, problem: &str, error: impl fmt::Display) -> Self {
        let text = format!("{what} {problem}: {error}").replace(char::is_control, " ");
        Self::bad_request(shorten(&text, MAX_TEXT).to_owned())
    }
}

/// The longest text, in bytes, that this library makes of a client's input.
const MAX_TEXT: usize = 200;

/// As much of `text` as fits into `max` bytes.
fn shorten(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reject")
            .field("status", &self.status().as_u16())
            .field("text", &self.text())
            .field("close_code", &u16::from(self.0.code))
            .finish()
    }
}

/// Its source is a copy of itself, for [`Reject::find`]: a `#[error(transparent)]` error around it passes on
/// only the source.
impl Error for Reject {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the client is told {}", self.status)
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Rejection {}

/// A bad request.
impl From<&'static str> for Reject {
    fn from(text: &'static str) -> Self {
        Self::bad_request(text)
    }
}

/// A bad request.
impl From<String> for Reject {
    fn from(text: String) -> Self {
        Self::bad_request(text)
    }
}

/// Turns an error or a `None` into a [`Reject`]: the client's fault.
///
/// ```
/// use partykit_core::{OrReject, Reject};
///
/// fn age(text: &str) -> Result<u8, Reject> {
///     text.parse().or_reject("an age is a number up to 255")
/// }
/// fn first(names: &[String]) -> Result<&String, Reject> {
///     names.first().or_reject(Reject::not_found("there is no name"))
/// }
/// assert_eq!(age("x").unwrap_err().status(), 400);
/// assert_eq!(first(&[]).unwrap_err().status(), 404);
/// ```
pub trait OrReject<T> {
    /// Returns the value, or this answer for the client. A text alone becomes a bad request (400).
    ///
    /// # Errors
    ///
    /// The answer, when there is no value.
    fn or_reject(self, reject: impl Into<Reject>) -> Result<T, Reject>;
}

impl<T> OrReject<T> for Option<T> {
    fn or_reject(self, reject: impl Into<Reject>) -> Result<T, Reject> {
        self.ok_or_else(|| reject.into())
    }
}

impl<T, E> OrReject<T> for Result<T, E> {
    fn or_reject(self, reject: impl Into<Reject>) -> Result<T, Reject> {
        self.map_err(|_| reject.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BoxError;

    #[derive(Debug, thiserror::Error)]
    enum Own {
        #[error(transparent)]
        Clear(#[from] Reject),
        #[error("of my own")]
        Wrapped(#[source] Reject),
        #[error(transparent)]
        Boxed(BoxError),
    }

    #[test]
    fn is_found_in_errors_that_are_made_of_it() {
        let reject = || Reject::conflict("taken");
        let errors: [BoxError; 5] = [
            reject().into(),
            Own::from(reject()).into(),
            Own::Wrapped(reject()).into(),
            Own::Boxed(Own::Wrapped(reject()).into()).into(),
            std::io::Error::other(reject()).into(),
        ];
        for error in errors {
            let found = Reject::find(&*error).unwrap_or_else(|| panic!("{error:?}"));
            assert_eq!((found.status(), found.text()), (StatusCode::CONFLICT, "taken"));
        }
    }

    #[test]
    fn others_are_not() {
        let error: BoxError = Own::Boxed("failed".into()).into();
        assert!(Reject::find(&*error).is_none());
        assert!(Reject::find(&serde_json::from_str::<u8>("{").unwrap_err()).is_none());
    }

    #[test]
    fn a_close_holds_what_fits_of_the_text() {
        let close = Reject::bad_request("é".repeat(100)).close();
        assert_eq!((u16::from(close.code()), close.reason().len()), (4400, 122));
        assert!(Close::new(close.code(), close.reason()).is_ok());
    }

    #[test]
    fn only_codes_that_may_be_sent_are_taken() {
        let code = |reject: Reject| u16::from(reject.close().code());
        assert_eq!(code(Reject::forbidden("").close_code(4001)), 4001);
        assert_eq!(code(Reject::forbidden("").close_code(1006)), 4403);
        assert_eq!(code(Reject::new(StatusCode::OK, "")), 4400);
        assert_eq!(code(Reject::new(StatusCode::from_u16(999).unwrap(), "")), 4400);
    }

    #[test]
    fn what_a_client_sent_makes_no_long_text_and_no_second_line() {
        #[derive(Debug, serde::Deserialize)]
        enum Deed {
            Jump,
        }
        let json = serde_json::to_vec(&format!("a\nb{}", "x".repeat(1 << 16))).unwrap();
        let reject = Reject::read_json::<Deed>("the message", &json).unwrap_err();
        assert!(reject.text().starts_with("the message does not fit: unknown variant `a b"));
        assert_eq!(reject.text().len(), MAX_TEXT);
        let _ = Deed::Jump;
    }
}
