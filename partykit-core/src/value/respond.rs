use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::{Body, JsonError, Response};

/// Makes responses in one line. Import this trait, and [`Response`](crate::Response) has these functions.
///
/// ```
/// use partykit_core::{Response, ResponseExt};
/// use http::StatusCode;
///
/// let created = Response::json(&[1, 2])?.with_status(StatusCode::CREATED);
/// assert_eq!(created.status(), 201);
/// assert_eq!(created.headers()["content-type"], "application/json");
/// assert_eq!(created.body().bytes().unwrap(), "[1,2]");
///
/// let custom: Response = Response::builder().header("cache-control", "no-store").body("hi".into())?;
/// assert_eq!(custom.headers()["cache-control"], "no-store");
/// # Ok::<(), partykit_core::BoxError>(())
/// ```
///
/// An answer that says what the client did wrong is a [`Reject`](crate::Reject).
pub trait ResponseExt: Sized {
    /// 200 with `value` as JSON.
    ///
    /// # Errors
    ///
    /// When `value` has no JSON form.
    fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError>;

    /// 200 with a plain text.
    fn text(text: impl Into<String>) -> Self;

    /// 200 with a page of HTML. Nothing in it is escaped.
    fn html(html: impl Into<String>) -> Self;

    /// 200 with a body of this kind, as `text/css; charset=utf-8`: for pages that are a part of the program.
    ///
    /// ```
    /// use partykit_core::{Response, ResponseExt};
    ///
    /// let style = Response::content("text/css; charset=utf-8", "p { color: teal }");
    /// assert_eq!(style.headers()["content-type"], "text/css; charset=utf-8");
    /// ```
    fn content(kind: &'static str, body: impl Into<Body>) -> Self;

    /// This status, without a body.
    fn empty(status: StatusCode) -> Self;

    /// 303: the browser goes to this address with a GET.
    ///
    /// # Errors
    ///
    /// When `to` is not valid in a header.
    fn redirect(to: &str) -> Result<Self, header::InvalidHeaderValue>;

    /// The builder of the `http` crate.
    fn builder() -> http::response::Builder;

    /// The same answer with another status.
    #[must_use]
    fn with_status(self, status: StatusCode) -> Self;
}

impl ResponseExt for Response {
    fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        let json = serde_json::to_vec(value).map_err(JsonError::new)?;
        Ok(of_kind("application/json", json.into()))
    }

    fn text(text: impl Into<String>) -> Self {
        of_kind("text/plain; charset=utf-8", text.into().into())
    }

    fn html(html: impl Into<String>) -> Self {
        of_kind("text/html; charset=utf-8", html.into().into())
    }

    fn content(kind: &'static str, body: impl Into<Body>) -> Self {
        of_kind(kind, body.into())
    }

    fn empty(status: StatusCode) -> Self {
        Self::new(Body::empty()).with_status(status)
    }

    fn redirect(to: &str) -> Result<Self, header::InvalidHeaderValue> {
        let mut response = Self::empty(StatusCode::SEE_OTHER);
        response.headers_mut().insert(header::LOCATION, to.parse()?);
        Ok(response)
    }

    fn builder() -> http::response::Builder {
        http::Response::builder()
    }

    fn with_status(mut self, status: StatusCode) -> Self {
        *self.status_mut() = status;
        self
    }
}

fn of_kind(kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// An answer of one line of text.
pub(crate) fn line(status: StatusCode, line: impl std::fmt::Display) -> Response {
    Response::text(format!("{line}\n")).with_status(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_cannot_bring_a_header_of_its_own() {
        let response = Response::redirect("/parties/main/a?b=1").unwrap();
        assert_eq!(
            (response.status(), &response.headers()["location"]),
            (StatusCode::SEE_OTHER, &"/parties/main/a?b=1".parse::<HeaderValue>().unwrap())
        );
        assert!(Response::redirect("/\r\nset-cookie: a=1").is_err());
    }
}
