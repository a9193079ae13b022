use std::{
    fmt,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use http::{StatusCode, header::CONTENT_TYPE};
use http_body::{Frame, SizeHint};
use serde::de::DeserializeOwned;

use crate::{BoxError, JsonError, OrReject, Reject};

/// An HTTP request: the type of the `http` crate with our [`Body`].
///
/// ```
/// use partykit_core::{Body, Request, RequestExt};
///
/// let request: Request = Request::new(Body::from("[1, 2]"));
/// assert_eq!(request.json::<Vec<u32>>()?, [1, 2]);
/// # Ok::<(), partykit_core::Reject>(())
/// ```
pub type Request = http::Request<Body>;

/// An HTTP response: the type of the `http` crate with our [`Body`].
///
/// ```
/// use partykit_core::{Body, Response};
///
/// let response: Response = Response::new(Body::from("hello"));
/// assert_eq!(response.status(), 200);
/// ```
pub type Response = http::Response<Body>;

/// The body of a request or a response: bytes at hand, or a stream of them.
///
/// A runtime reads the whole body of a request before the room sees it, so handlers always have the bytes
/// ([`Body::bytes`]). A response may be a stream. The room stays awake while the stream is open.
///
/// ```
/// use partykit_core::Body;
///
/// assert_eq!(Body::from("hi").bytes().map(|bytes| &bytes[..]), Some(&b"hi"[..]));
/// let stream = futures_util::stream::iter([Ok("a".into()), Ok("b".into())]);
/// assert_eq!(Body::stream(stream).bytes(), None);
/// ```
#[derive(Default)]
pub struct Body(Inner);

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

enum Inner {
    Full(Bytes),
    /// The lock is never taken. It makes the body `Sync`, which is needed to borrow a request across an
    /// await.
    Stream(Mutex<Pieces>),
}

impl Default for Inner {
    fn default() -> Self {
        Self::Full(Bytes::new())
    }
}

impl Body {
    /// An empty body.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A body that arrives in pieces. An `Err` aborts the transfer.
    pub fn stream(pieces: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Self {
        Self(Inner::Stream(Mutex::new(Box::pin(pieces))))
    }

    /// The whole body. `None` if it is a stream.
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.0 {
            Inner::Full(bytes) => Some(bytes),
            Inner::Stream(_) => None,
        }
    }

    /// The same body, which drops `held` when it ends or is dropped.
    pub(crate) fn hold(self, held: impl Send + 'static) -> Self {
        let Inner::Stream(stream) = self.0 else { return self };
        let mut stream = stream.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut held = Some(held);
        Self::stream(futures_util::stream::poll_fn(move |cx| {
            let piece = stream.as_mut().poll_next(cx);
            if let Poll::Ready(None | Some(Err(_))) = piece {
                held.take();
            }
            piece
        }))
    }

    /// Whether the body is a stream, which may stay open for long.
    pub fn is_stream(&self) -> bool {
        matches!(self.0, Inner::Stream(_))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Full(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Inner::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Inner::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Inner::Stream(stream) => {
                let stream = stream.get_mut().unwrap_or_else(PoisonError::into_inner);
                stream.as_mut().poll_next(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes().is_some_and(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        match self.bytes() {
            Some(bytes) => SizeHint::with_exact(bytes.len() as u64),
            None => SizeHint::default(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Inner::Full(bytes))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

/// Methods of a [`Request`], beside those of the `http` crate.
///
/// ```
/// use partykit_core::{Body, Request, RequestExt};
///
/// let request: Request = http::Request::builder().uri("/parties/main/a?name=J%C3%BCrgen&b=1").body(Body::empty())?;
/// assert_eq!(request.query("name").as_deref(), Some("Jürgen"));
/// assert_eq!(request.query("missing"), None);
/// # Ok::<(), http::Error>(())
/// ```
pub trait RequestExt {
    /// The builder of the `http` crate, for tests and for calls to other rooms.
    ///
    /// ```
    /// use partykit_core::{Request, RequestExt};
    ///
    /// let request: Request = Request::builder().method("POST").uri("/").body("[1]".into())?;
    /// assert_eq!(request.method(), "POST");
    /// # Ok::<(), http::Error>(())
    /// ```
    fn builder() -> http::request::Builder
    where
        Self: Sized;

    /// The first value of a query parameter, percent-decoded (`+` is a space).
    fn query(&self, name: &str) -> Option<String>;

    /// The props that a before-hook gave with [`Admission::props`](crate::Admission::props). `None` if it
    /// gave no props. Clients cannot forge them, because they are not in a header.
    ///
    /// # Errors
    ///
    /// When the props are not of this shape.
    fn props<T: DeserializeOwned>(&self) -> Result<Option<T>, JsonError>;

    /// Reads the body as JSON.
    ///
    /// # Errors
    ///
    /// A [`Reject`]: 415 if the `Content-Type` names another format, such as
    /// `application/x-www-form-urlencoded`; 400 if the body is not JSON of this shape. A body without a
    /// `Content-Type`, or with `text/plain` (what `fetch` sends for a string), is read as JSON.
    fn json<T: DeserializeOwned>(&self) -> Result<T, Reject>;

    /// Reads the body as text.
    ///
    /// # Errors
    ///
    /// A [`Reject`] (400) when the body is not UTF-8.
    fn text(&self) -> Result<&str, Reject>;

    /// Reads the query into a type of yours. A field that is a `Vec` gets all values of its name.
    ///
    /// # Errors
    ///
    /// A [`Reject`] (400) when the query is not of this shape. Parameters that the type does not have, as
    /// PartySocket's `_pk`, are no error.
    fn query_as<T: DeserializeOwned>(&self) -> Result<T, Reject>;
}

impl RequestExt for Request {
    fn builder() -> http::request::Builder {
        http::Request::builder()
    }

    fn query(&self, name: &str) -> Option<String> {
        crate::value::route::query_value(self.uri().query()?, name)
    }

    fn props<T: DeserializeOwned>(&self) -> Result<Option<T>, JsonError> {
        let props = self.extensions().get::<Props>();
        let read = props.map(|Props(json)| serde_json::from_slice::<Option<T>>(json));
        read.transpose().map(Option::flatten).map_err(JsonError::new)
    }

    fn json<T: DeserializeOwned>(&self) -> Result<T, Reject> {
        if let Some(kind) = self.headers().get(CONTENT_TYPE)
            && !may_be_json(kind.as_bytes())
        {
            return Err(Reject::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body has to be JSON: send Content-Type: application/json",
            ));
        }
        Reject::read_json("the body", bytes(self))
    }

    fn text(&self) -> Result<&str, Reject> {
        std::str::from_utf8(bytes(self)).or_reject("the body is not UTF-8")
    }

    fn query_as<T: DeserializeOwned>(&self) -> Result<T, Reject> {
        Reject::read_query(self.uri().query())
    }
}

fn bytes(request: &Request) -> &[u8] {
    request.body().bytes().map_or(&[], |bytes| bytes)
}

/// Whether a body of this `Content-Type` may hold JSON.
fn may_be_json(kind: &[u8]) -> bool {
    let kind = String::from_utf8_lossy(kind);
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(&*kind, "" | "application/json" | "text/json" | "text/plain")
        || kind.ends_with("+json")
}

/// The JSON that travels from a before-hook to the room, in the request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Props(pub(crate) Bytes);
