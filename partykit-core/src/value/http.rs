use std::{
    fmt,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Frame, SizeHint};
use serde::de::DeserializeOwned;

use crate::BoxError;

/// An HTTP request: the type of the `http` crate with our [`Body`].
///
/// ```
/// use partykit_core::{Body, Request, RequestExt};
///
/// let request: Request = Request::new(Body::from("[1, 2]"));
/// assert_eq!(request.json::<Vec<u32>>()?, [1, 2]);
/// # Ok::<(), serde_json::Error>(())
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
/// A runtime reads a request's body before the room sees the request, so that it is always at hand
/// there ([`Body::bytes`]). A response may stream; while its stream is open, the room stays awake.
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
    /// The lock is never taken, only looked through: it makes the body `Sync`, as a request that is
    /// borrowed across an await has to be.
    Stream(Mutex<Pieces>),
}

impl Default for Inner {
    fn default() -> Self {
        Self::Full(Bytes::new())
    }
}

impl Body {
    /// A body without a byte.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A body that arrives in pieces. An `Err` aborts the transfer.
    pub fn stream(pieces: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Self {
        Self(Inner::Stream(Mutex::new(Box::pin(pieces))))
    }

    /// The whole body, or `None` when it is a stream.
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

/// What handlers ask of a [`Request`] beyond the `http` crate's own methods.
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
    /// The first value of a query parameter, percent-decoded (`+` is a space).
    fn query(&self, name: &str) -> Option<String>;

    /// The props that a before-hook gave with [`Admission::props`](crate::Admission::props), or
    /// `None` when it gave none. Clients cannot forge them: they never travel in a header.
    ///
    /// # Errors
    ///
    /// When the props are not of this shape.
    fn props<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error>;

    /// Reads the body as JSON.
    ///
    /// # Errors
    ///
    /// When the body is not JSON of this shape, or is a stream.
    fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error>;
}

impl RequestExt for Request {
    fn query(&self, name: &str) -> Option<String> {
        crate::value::route::query_value(self.uri().query()?, name)
    }

    fn props<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error> {
        let props = self.extensions().get::<Props>();
        props.map(|Props(json)| serde_json::from_slice(json)).transpose()
    }

    fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.body().bytes().map_or(&[], |bytes| bytes))
    }
}

/// The JSON that travels from a before-hook to the room, in the request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Props(pub(crate) Bytes);
