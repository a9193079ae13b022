use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header, request::Parts,
};

use super::Refused;
use crate::ConnectionId;

/// The part of a WebSocket handshake that every runtime needs: the client's [id](ConnectionId), and the
/// sub-protocols that it offers.
///
/// ```
/// use partykit_core::runtime::front::Handshake;
///
/// let request = http::Request::get("/parties/main/lobby?_pk=ada").header("upgrade", "websocket");
/// let (head, ()) = request.body(())?.into_parts();
/// assert!(Handshake::is_wanted(&head.headers));
/// assert!(Handshake::parse(&head).is_ok());
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Debug)]
pub struct Handshake {
    pub(super) id: Option<ConnectionId>,
    pub(super) offered: Vec<String>,
}

/// What is wrong or ambiguous in a handshake (RFC 6455, section 4.2.1).
///
/// ```
/// use partykit_core::runtime::front::BadHandshake;
///
/// assert_eq!(BadHandshake::NotGet.status(), 400);
/// assert_eq!(BadHandshake::WebSocketVersion.status(), 426);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadHandshake {
    /// The method is another one.
    #[error("a WebSocket handshake is a GET request")]
    NotGet,
    /// There are two `Upgrade` headers.
    #[error("two Upgrade headers")]
    TwoUpgrades,
    /// It is not HTTP/1.1.
    #[error("an upgrade needs HTTP/1.1")]
    HttpVersion,
    /// It has a body.
    #[error("an upgrade has no body")]
    Body,
    /// `Connection` does not name the upgrade.
    #[error("an upgrade needs `Connection: Upgrade`")]
    NoConnection,
    /// There are two versions.
    #[error("two Sec-WebSocket-Version headers")]
    TwoVersions,
    /// The version is not 13.
    #[error("only WebSocket version 13 is supported")]
    WebSocketVersion,
    /// There is no key, more than one, or it is not valid.
    #[error("an upgrade needs one Sec-WebSocket-Key of 16 bytes in base64")]
    Key,
}

impl BadHandshake {
    /// The status of the answer: 426 for another version, else 400.
    pub fn status(self) -> StatusCode {
        match self {
            Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl Handshake {
    /// Whether the client wants the connection to become a WebSocket.
    pub fn is_wanted(headers: &HeaderMap) -> bool {
        has_token(headers, header::UPGRADE, "websocket")
    }

    /// Whether a head that is not [wanted](Self::is_wanted) to be a handshake is one without `Upgrade`, which a
    /// proxy has probably removed.
    pub(super) fn is_cut_short(headers: &HeaderMap) -> bool {
        headers.contains_key(header::SEC_WEBSOCKET_KEY)
    }

    /// Reads a head that [is wanted](Self::is_wanted) to be a handshake.
    ///
    /// # Errors
    ///
    /// When it is not a GET, has two `Upgrade` headers, or asks for a connection id that is not valid.
    pub fn parse(head: &Parts) -> Result<Self, Refused> {
        if head.method != Method::GET {
            return Err(BadHandshake::NotGet.into());
        }
        if head.headers.get_all(header::UPGRADE).iter().count() > 1 {
            return Err(BadHandshake::TwoUpgrades.into());
        }
        let id = ConnectionId::from_query(head.uri.query())?;
        let offered = head.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
        Ok(Self { id, offered: offered.flat_map(tokens).map(ToOwned::to_owned).collect() })
    }

    /// Checks the rest of a handshake, for a runtime that speaks HTTP itself. Returns the key that the answer
    /// has to accept.
    ///
    /// ```
    /// use partykit_core::runtime::front::{BadHandshake, Handshake};
    ///
    /// let request = http::Request::get("/").header("connection", "Upgrade");
    /// let (head, ()) = request.header("sec-websocket-version", "12").body(())?.into_parts();
    /// assert_eq!(Handshake::key(&head, true), Err(BadHandshake::WebSocketVersion));
    /// # Ok::<(), http::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When it breaks RFC 6455.
    pub fn key(head: &Parts, has_no_body: bool) -> Result<&[u8], BadHandshake> {
        let headers = &head.headers;
        if head.version != Version::HTTP_11 {
            return Err(BadHandshake::HttpVersion);
        }
        if !has_no_body || headers.contains_key(header::TRANSFER_ENCODING) {
            return Err(BadHandshake::Body);
        }
        if !has_token(headers, header::CONNECTION, "upgrade") {
            return Err(BadHandshake::NoConnection);
        }
        match one(headers, header::SEC_WEBSOCKET_VERSION) {
            Ok(Some(b"13")) => {}
            Ok(_) => return Err(BadHandshake::WebSocketVersion),
            Err(Repeated) => return Err(BadHandshake::TwoVersions),
        }
        match one(headers, header::SEC_WEBSOCKET_KEY) {
            Ok(Some(key)) if is_key(key) => Ok(key),
            _ => Err(BadHandshake::Key),
        }
    }
}

/// 16 bytes in base64: 22 digits and the padding.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |c: &u8| c.is_ascii_alphanumeric() || b"+/".contains(c);
    matches!(key.split_last_chunk(), Some((digits, b"==")) if digits.len() == 22 && digits.iter().all(is_digit))
}

struct Repeated;

/// The value of a header that may be there once.
fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&[u8]>, Repeated> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(Repeated),
        (value, None) => Ok(value.map(|value| value.as_bytes())),
    }
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    headers.get_all(name).into_iter().any(|value| {
        // Nearly always it is the whole value.
        value.as_bytes().eq_ignore_ascii_case(token.as_bytes())
            || tokens(value).any(|found| found.eq_ignore_ascii_case(token))
    })
}

/// The parts of a list between its commas.
fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    let value = value.to_str().unwrap_or_default();
    value.split(',').map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(edit: impl FnOnce(&mut Parts)) -> Parts {
        let request = http::Request::builder()
            .uri("http://h.com/parties/main/a?_pk=me")
            .header("upgrade", "WebSocket")
            .header("connection", "keep-alive, Upgrade")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", "a, b")
            .header("sec-websocket-protocol", "c");
        let mut head = request.body(()).unwrap().into_parts().0;
        edit(&mut head);
        head
    }

    fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut Parts) {
        move |head| drop(head.headers.insert(name, HeaderValue::from_static(value)))
    }

    fn add(name: &'static str, value: &'static str) -> impl FnOnce(&mut Parts) {
        move |head| {
            head.headers.append(name, HeaderValue::from_static(value));
        }
    }

    #[test]
    fn reads_a_handshake() {
        let head = head(|_| ());
        assert!(Handshake::is_wanted(&head.headers));
        let handshake = Handshake::parse(&head).unwrap();
        assert_eq!(handshake.id.as_deref(), Some("me"));
        assert_eq!(handshake.offered, ["a", "b", "c"]);
        assert_eq!(Handshake::key(&head, true).unwrap(), b"dGhlIHNhbXBsZSBub25jZQ==");
    }

    #[test]
    fn finds_a_token_alone_or_in_a_list() {
        for (value, found) in [
            ("upgrade", true),
            ("UPGRADE", true),
            ("keep-alive, Upgrade", true),
            (" ,upgrade ,x", true),
            ("upgrades", false),
            ("up grade", false),
            ("", false),
        ] {
            let head = head(set("connection", value));
            assert_eq!(has_token(&head.headers, header::CONNECTION, "upgrade"), found, "{value}");
        }
        let mut head = head(set("connection", "keep-alive"));
        let bytes = HeaderValue::from_bytes(b"upgrade, \xff").unwrap();
        head.headers.append("connection", bytes);
        assert!(!has_token(&head.headers, header::CONNECTION, "upgrade"), "it is no text");
        head.headers.append("connection", HeaderValue::from_static("x, upgrade"));
        assert!(has_token(&head.headers, header::CONNECTION, "upgrade"));
    }

    #[test]
    fn refuses_what_is_not_one() {
        let status =
            |edit: &dyn Fn(&mut Parts)| Handshake::parse(&head(edit)).unwrap_err().status();
        assert_eq!(status(&|head| head.method = Method::POST), 400);
        assert_eq!(status(&|head| head.uri = "http://h.com/?_pk=".parse().unwrap()), 400);
        assert_eq!(status(&|head| add("upgrade", "websocket")(head)), 400);
    }

    #[test]
    fn refuses_what_the_wire_should_not_have() {
        let problem = |head: Parts| Handshake::key(&head, true).unwrap_err();
        let old = head(|head| head.version = Version::HTTP_10);
        assert_eq!(problem(old), BadHandshake::HttpVersion);
        assert_eq!(problem(head(set("connection", "close"))), BadHandshake::NoConnection);
        assert_eq!(problem(head(add("transfer-encoding", "chunked"))), BadHandshake::Body);
        let version = problem(head(set("sec-websocket-version", "12")));
        assert_eq!(version, BadHandshake::WebSocketVersion);
        let versions = problem(head(add("sec-websocket-version", "13")));
        assert_eq!(versions, BadHandshake::TwoVersions);
        let two = problem(head(add("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")));
        assert_eq!(two, BadHandshake::Key);
        for key in ["", "AAAA", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25j ZQ=="] {
            assert_eq!(problem(head(set("sec-websocket-key", key))), BadHandshake::Key, "{key}");
        }
        assert_eq!(Handshake::key(&head(|_| ()), false), Err(BadHandshake::Body));
    }

    #[test]
    fn knows_one_whose_upgrade_is_lost() {
        assert!(Handshake::is_wanted(&head(|_| ()).headers));
        let cut = head(|head| drop(head.headers.remove(header::UPGRADE)));
        assert!(!Handshake::is_wanted(&cut.headers) && Handshake::is_cut_short(&cut.headers));
    }
}
