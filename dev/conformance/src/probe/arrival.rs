use partykit::{
    Admission, Admit, BoxError, Lobby, Reject, Request, RequestExt, Result, error::Handler,
};
use serde::{Deserialize, Serialize};

/// What a client asks for with the query of its address: what the hook and `on_connect` shall do.
///
/// ```
/// use partykit_conformance::Arrival;
///
/// let request = partykit::http::Request::get("/parties/probe/a?greet=2&tags=x,y").body("a".into())?;
/// let arrival = Arrival::of(&request)?;
/// assert_eq!((arrival.greet, arrival.tags), (2, vec!["x".to_owned(), "y".to_owned()]));
/// # Ok::<(), partykit::BoxError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a list of what a query can say")]
pub struct Arrival {
    /// `refuse=403`: the hook answers with this status.
    pub refuse: Option<u16>,
    /// `hook=fail`: the hook returns an `Err`.
    pub hook_fails: bool,
    /// `reject=hook`, `reject=connect`: the hook or `on_connect` returns a `Reject`.
    pub rejects: Option<Handler>,
    /// `as=ada`: the hook gives the room props with this name.
    pub name: Option<String>,
    /// `motto=tell`: the hook gives the room props with the application's [`Motto`] as their name.
    pub tells_motto: bool,
    /// `protocol=v2`: the hook chooses this sub-protocol.
    pub protocol: Option<String>,
    /// `tags=a,b`: the connection's tags.
    pub tags: Vec<String>,
    /// `greet=3`: `on_connect` sends `greet 0`, `greet 1`, `greet 2`.
    pub greet: u32,
    /// `put=key`: `on_connect` stores `true` under this key, before anything else.
    pub put: Option<String>,
    /// `show=request`: `on_connect` sends what it sees of the request.
    pub show: bool,
    /// `close=4001`: `on_connect` closes the connection.
    pub close: Option<u16>,
    /// `connect=fail`: `on_connect` returns an `Err`.
    pub fails: bool,
    /// `connect=panic`: `on_connect` panics.
    pub panics: bool,
}

impl Arrival {
    /// Reads a request's query.
    ///
    /// # Errors
    ///
    /// When a value is not a number.
    pub fn of(request: &Request) -> Result<Self> {
        let number = |name| request.query(name).map(|text| text.parse::<u16>()).transpose();
        let says = |name, value: &str| request.query(name).is_some_and(|said| said == value);
        let tags = request.query("tags").unwrap_or_default();
        Ok(Self {
            refuse: number("refuse")?,
            hook_fails: says("hook", "fail"),
            rejects: match request.query("reject").as_deref() {
                Some("hook") => Some(Handler::OnBeforeConnect),
                Some("connect") => Some(Handler::OnConnect),
                _ => None,
            },
            name: request.query("as"),
            tells_motto: says("motto", "tell"),
            protocol: request.query("protocol"),
            tags: tags.split(',').filter(|tag| !tag.is_empty()).map(Into::into).collect(),
            greet: number("greet")?.unwrap_or(0).into(),
            put: request.query("put"),
            show: says("show", "request"),
            close: number("close")?,
            fails: says("connect", "fail"),
            panics: says("connect", "panic"),
        })
    }

    /// What the hook makes of it.
    pub(super) fn admit(self, request: Request, lobby: &Lobby) -> Result<Admit> {
        if let Some(status) = self.refuse {
            return Ok(Admit::refuse(partykit::http::StatusCode::from_u16(status)?));
        }
        if self.hook_fails {
            return Err(super::SECRET.into());
        }
        if self.rejects == Some(Handler::OnBeforeConnect) {
            return Err(Reject::unauthorized("log in").into());
        }
        let mut admission = Admission::new(request);
        let motto = self.tells_motto.then(|| lobby.state::<Motto>()).transpose()?;
        if let Some(name) = self.name.or_else(|| motto.map(|motto| motto.0.clone())) {
            let (party, room) = (lobby.party().to_owned(), lobby.id().to_owned());
            admission = admission.props(&Props { name, party, room })?;
        }
        if let Some(protocol) = self.protocol {
            admission = admission.protocol(protocol);
        }
        Ok(admission.into())
    }
}

/// A text that a runtime's application gives to all hooks and rooms.
///
/// ```
/// use partykit_conformance::Motto;
///
/// let builder = partykit::Runtime::builder().state(Motto(Motto::DEFAULT.to_owned()));
/// # let _ = builder;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a text")]
pub struct Motto(pub String);

impl Motto {
    /// What cases expect.
    pub const DEFAULT: &str = "one for all";
}

/// What the hook tells the room.
#[derive(Debug, Deserialize, Serialize)]
struct Props {
    name: String,
    party: String,
    room: String,
}

/// What a handler sees of a request, as JSON.
pub(super) fn seen(request: &Request) -> Result<serde_json::Value, BoxError> {
    let headers = request.headers().iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let props = request.props::<Props>()?;
    let uri = request.uri();
    let (path, query) = (uri.path(), uri.query());
    let body = request.body().bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    Ok(serde_json::json!({
        "re": "request", "method": request.method().as_str(), "path": path, "query": query,
        "headers": headers, "props": props, "body": body,
    }))
}
