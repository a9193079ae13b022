use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;

use crate::{Admission, Body, JsonError, Message, Request, RequestExt, value::http::Props};

/// Something that happens to a room under test.
///
/// ```
/// use std::time::Duration;
/// use partykit_core::testing::Step;
///
/// let steps = [
///     Step::connect("ada").query("name=Ada&token=s3cret").header("cookie", "lang=en"),
///     Step::say("ada", "hello"),
///     Step::post("/history", r#"{"text": "hi"}"#).header("content-type", "application/json"),
///     Step::get("/history"),
///     Step::advance(Duration::from_secs(60)),
///     // A client says what the room does not understand.
///     Step::say("ada", "{").may_fail(),
///     Step::close("ada", 1000),
/// ];
/// assert_eq!(steps[1].to_string(), r#"ada says "hello""#);
/// ```
#[derive(Clone, Debug)]
pub struct Step {
    pub(super) what: What,
    pub(super) may_fail: bool,
    query: String,
    headers: HeaderMap,
    props: Option<Bytes>,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Advance(Duration),
    Close { id: String, code: u16 },
    Connect { id: String },
    Request { method: Method, path: String, body: Bytes },
    Say { id: String, message: Message },
    Vanish { id: String },
}

impl Step {
    /// Time passes.
    pub fn advance(time: Duration) -> Self {
        Self::new(What::Advance(time))
    }

    /// A client closes its connection, with this code.
    pub fn close(id: &str, code: u16) -> Self {
        Self::new(What::Close { id: id.to_owned(), code })
    }

    /// A client connects under this id. `on_before_connect` runs first, unless the room was built
    /// [without hooks](super::TestRoomBuilder::without_hooks).
    pub fn connect(id: &str) -> Self {
        Self::new(What::Connect { id: id.to_owned() })
    }

    /// A GET request. `path` is what follows the room's address: empty, or with a `/` or `?` first.
    pub fn get(path: &str) -> Self {
        Self::request(Method::GET, path, Bytes::new())
    }

    /// A POST request with this body.
    pub fn post(path: &str, body: impl Into<Bytes>) -> Self {
        Self::request(Method::POST, path, body)
    }

    /// A request.
    pub fn request(method: Method, path: &str, body: impl Into<Bytes>) -> Self {
        Self::new(What::Request { method, path: path.to_owned(), body: body.into() })
    }

    /// A client sends a message.
    pub fn say(id: &str, message: impl Into<Message>) -> Self {
        Self::new(What::Say { id: id.to_owned(), message: message.into() })
    }

    /// A client is gone without a Close.
    pub fn vanish(id: &str) -> Self {
        Self::new(What::Vanish { id: id.to_owned() })
    }

    /// Sets the query of a connect, without the `?`: `name=Ada&token=s3cret`. Other steps ignore it.
    #[must_use]
    pub fn query(self, query: &str) -> Self {
        Self { query: query.to_owned(), ..self }
    }

    /// Adds a header to a connect or a request. Other steps ignore it.
    ///
    /// # Panics
    ///
    /// When the name or the value is not valid in a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a header's name");
        self.headers.append(name, HeaderValue::from_str(value).expect("a header's value"));
        self
    }

    /// Adds props to a connect or a request, as if a before-hook had given them. Other steps ignore them.
    ///
    /// # Errors
    ///
    /// When `props` have no JSON form.
    pub fn props<T: Serialize + ?Sized>(self, props: &T) -> Result<Self, JsonError> {
        let request = Admission::new(Request::default()).props(props)?.into_request();
        let props = request.extensions().get::<Props>().map(|Props(json)| json.clone());
        Ok(Self { props, ..self })
    }

    /// Allows the step to be refused, closed or dropped, and its handler to fail. The visible results are
    /// still compared.
    #[must_use]
    pub fn may_fail(self) -> Self {
        Self { may_fail: true, ..self }
    }

    /// The client that takes the step.
    pub(super) fn client(&self) -> Option<&str> {
        match &self.what {
            What::Close { id, .. } | What::Say { id, .. } | What::Vanish { id } => Some(id),
            _ => None,
        }
    }

    /// The request of a connect or of a request; `at` is the room's address.
    pub(super) fn as_request(&self, at: &str) -> Request {
        let (method, path, body) = match &self.what {
            What::Connect { id } => {
                let mut query = form_urlencoded::Serializer::new(String::from("?"));
                let query = query.append_pair("_pk", id).finish();
                let more = if self.query.is_empty() { "" } else { "&" };
                (Method::GET, format!("{query}{more}{}", self.query), Bytes::new())
            }
            What::Request { method, path, body } => (method.clone(), path.clone(), body.clone()),
            _ => (Method::GET, String::new(), Bytes::new()),
        };
        let request = Request::builder().method(method).uri(format!("{at}{path}"));
        let mut request = request.body(Body::from(body)).expect("a request");
        *request.headers_mut() = self.headers.clone();
        if let Some(props) = &self.props {
            request.extensions_mut().insert(Props(props.clone()));
        }
        request
    }

    fn new(what: What) -> Self {
        let (query, headers, props) = (String::new(), HeaderMap::new(), None);
        Self { what, may_fail: false, query, headers, props }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Advance(time) => write!(f, "{time:?} pass"),
            What::Close { id, code } => write!(f, "{id} closes with {code}"),
            What::Connect { id } if self.query.is_empty() => write!(f, "{id} connects"),
            What::Connect { id } => write!(f, "{id} connects with {:?}", self.query),
            What::Request { method, path, body } => {
                write!(f, "{method} {path:?}")?;
                if body.is_empty() { Ok(()) } else { write!(f, " with {body:?}") }
            }
            What::Say { id, message } => match message.as_text() {
                Some(text) => write!(f, "{id} says {text:?}"),
                None => write!(f, "{id} says {:?}", message.clone().into_bytes()),
            },
            What::Vanish { id } => write!(f, "{id} vanishes"),
        }
    }
}
