use std::{borrow::Cow, sync::Arc};

use http::StatusCode;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::{InvalidConnectionId, InvalidRoomId, RoomAddress, RoomId};

/// The default prefix of the URLs of rooms.
const DEFAULT_PREFIX: &str = "parties";

/// The party of the short form.
const DEFAULT_PARTY: &str = "main";

/// The first part of the URLs of rooms: `/parties/:party/:room[/more]` has the prefix `parties`.
///
/// A prefix has any number of segments. Slashes at its ends are ignored. Default: `parties`, as in
/// PartySocket.
///
/// # The short form
///
/// With the default prefix, `/party/:room[/more]` means the room of the party `main`. Old clients use it:
/// PartyKit's, and PartySocket before 1.0.2 without the option `party`.
///
/// ```
/// use partykit_core::RoutePrefix;
///
/// let route = RoutePrefix::default().parse("/parties/chat/my%20room/history")?.unwrap();
/// assert_eq!((route.party(), route.room().as_str(), route.rest()), ("chat", "my room", "history"));
///
/// let route = RoutePrefix::default().parse("/party/lobby")?.unwrap();
/// assert_eq!((route.party(), route.room().as_str()), ("main", "lobby"));
///
/// let prefix = RoutePrefix::new("/api/rooms/");
/// assert!(prefix.parse("/api/rooms/chat/lobby")?.is_some());
/// assert!(prefix.parse("/index.html")?.is_none());
/// # Ok::<(), partykit_core::RouteError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePrefix(Vec<String>);

impl RoutePrefix {
    /// A prefix of one or more segments. An empty prefix puts rooms at the root: `/:party/:room`. The text is
    /// not percent-decoded.
    pub fn new(prefix: impl AsRef<str>) -> Self {
        Self(prefix.as_ref().split('/').filter(|it| !it.is_empty()).map(Into::into).collect())
    }

    /// The room of a URL's path. `None` if the path does not begin with the prefix.
    ///
    /// Party and room are percent-decoded, so different spellings mean the same room. (PartyServer leaves
    /// them encoded.) Empty segments before the room are skipped, as in PartyServer: `/parties//chat/lobby`
    /// is the same as `/parties/chat/lobby`.
    ///
    /// # Errors
    ///
    /// When the path begins with the prefix but does not name a valid room.
    pub fn parse(&self, path: &str) -> Result<Option<Route>, RouteError> {
        self.parse_with(path, |party| party.into())
    }

    /// The same, with names of parties that are made by `name`.
    pub(crate) fn parse_with(
        &self,
        path: &str,
        name: impl FnOnce(Cow<'_, str>) -> Arc<str>,
    ) -> Result<Option<Route>, RouteError> {
        let mut rest = path;
        if self.is_short(path) {
            let _party = next_segment(&mut rest);
            return route(rest, || name(DEFAULT_PARTY.into())).map(Some);
        }
        for segment in &self.0 {
            match next_segment(&mut rest).map(decode) {
                Some(Ok(found)) if found == *segment => {}
                _ => return Ok(None),
            }
        }
        let party = decode(next_segment(&mut rest).ok_or(RouteError::MissingParty)?)?;
        route(rest, || name(party)).map(Some)
    }

    /// Whether a path has the short form `/party/:room`, which always means the party `main`.
    pub fn is_short(&self, mut path: &str) -> bool {
        let is_party = |segment: &str| decode(segment).is_ok_and(|segment| segment == "party");
        self.0 == [DEFAULT_PREFIX]
            && next_segment(&mut path).is_some_and(is_party)
            && next_segment(&mut path).is_some()
    }

    /// Whether a path is below the prefix and goes on with the name of this party.
    ///
    /// ```
    /// use partykit_core::RoutePrefix;
    ///
    /// assert!(RoutePrefix::new("live").leads_to("/live/chat/lobby", "chat"));
    /// assert!(!RoutePrefix::new("live").leads_to("/parties/chat/lobby", "chat"));
    /// ```
    pub fn leads_to(&self, mut path: &str, party: &str) -> bool {
        let mut is_next = |wanted: &str| {
            let found = next_segment(&mut path).map(decode);
            found.is_some_and(|found| found.is_ok_and(|found| found == wanted))
        };
        self.0.iter().all(|segment| is_next(segment)) && is_next(party)
    }

    /// The path of a room's URL, percent-encoded where needed. [`parse`](Self::parse) reads it back.
    ///
    /// A browser can never reach a room named `.` or `..`, because it resolves such segments before it sends
    /// them.
    ///
    /// ```
    /// use partykit_core::{RoomAddress, RoomId, Route, RoutePrefix};
    ///
    /// let route = Route::new(RoomAddress::new("chat", RoomId::new("a/b")?));
    /// assert_eq!(RoutePrefix::default().path(&route), "/parties/chat/a%2Fb");
    /// # Ok::<(), partykit_core::InvalidRoomId>(())
    /// ```
    pub fn path(&self, route: &Route) -> String {
        let mut path = self.beginning(route.party());
        path.extend(utf8_percent_encode(route.room(), SEGMENT));
        if !route.rest.is_empty() {
            path.push('/');
            path.push_str(&route.rest);
        }
        path
    }
}

impl RoutePrefix {
    /// The path of a party's rooms, up to the room's name.
    pub(crate) fn beginning(&self, party: &str) -> String {
        let mut path = "/".to_owned();
        for segment in self.0.iter().map(String::as_str).chain([party]) {
            path.extend(utf8_percent_encode(segment, SEGMENT));
            path.push('/');
        }
        path
    }
}

impl Default for RoutePrefix {
    fn default() -> Self {
        Self::new(DEFAULT_PREFIX)
    }
}

/// The route to the room at the beginning of `rest`.
fn route(mut rest: &str, party: impl FnOnce() -> Arc<str>) -> Result<Route, RouteError> {
    let room = decode(next_segment(&mut rest).ok_or(RouteError::MissingRoom)?)?;
    let address = RoomAddress::new(party(), RoomId::new(room)?);
    Ok(Route::new(address).with_rest(rest.strip_prefix('/').unwrap_or(rest)))
}

/// The content of a room's URL path: the room, and the rest of the path.
///
/// ```
/// use partykit_core::{RoomAddress, RoomId, Route, RoutePrefix};
///
/// let address = RoomAddress::new("chat", RoomId::new("lobby")?);
/// let route = Route::new(address).with_rest("history/today");
/// let path = RoutePrefix::default().path(&route);
/// assert_eq!(path, "/parties/chat/lobby/history/today");
/// assert_eq!(RoutePrefix::default().parse(&path)?, Some(route));
/// # Ok::<(), partykit_core::BoxError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    address: RoomAddress,
    rest: String,
}

impl Route {
    /// The route to a room, without a rest. See [`Route`] for an example.
    pub fn new(address: RoomAddress) -> Self {
        Self { address, rest: String::new() }
    }

    /// Adds a rest, given without the slash in front. Percent-encoded parts stay as they are. Characters that
    /// are not valid in a path are percent-encoded.
    ///
    /// ```
    /// use partykit_core::{RoomAddress, RoomId, Route};
    ///
    /// let route = Route::new(RoomAddress::new("chat", RoomId::new("lobby")?));
    /// assert_eq!(route.with_rest("what?/a%20b").rest(), "what%3F/a%20b");
    /// # Ok::<(), partykit_core::InvalidRoomId>(())
    /// ```
    #[must_use]
    pub fn with_rest(mut self, rest: &str) -> Self {
        self.rest.clear();
        self.rest.extend(utf8_percent_encode(rest, PATH));
        self
    }

    /// The name of the party, percent-decoded. There may be no such party.
    pub fn party(&self) -> &str {
        self.address.party()
    }

    /// The id of the room, percent-decoded.
    pub fn room(&self) -> &RoomId {
        self.address.room()
    }

    /// Party and room together.
    pub fn address(&self) -> &RoomAddress {
        &self.address
    }

    /// The path after the room, without the slash in front, still percent-encoded. Often empty. (PartySocket
    /// calls it `path`.)
    pub fn rest(&self) -> &str {
        &self.rest
    }
}

/// Why a URL below the prefix does not lead to a room.
///
/// ```
/// use partykit_core::RoutePrefix;
///
/// let prefix = RoutePrefix::default();
/// assert_eq!(prefix.parse("/parties/chat").unwrap_err().status(), 404);
/// assert_eq!(prefix.parse("/parties/chat/%zz").unwrap_err().status(), 400);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// A `%` without two hexadecimal digits, or bytes that are not UTF-8.
    #[error("the URL has bad percent-encoding")]
    Encoding,
    /// The client asked for a connection id that is not valid.
    #[error(transparent)]
    InvalidConnectionId(#[from] InvalidConnectionId),
    /// The room's id is too long.
    #[error(transparent)]
    InvalidRoomId(#[from] InvalidRoomId),
    /// The path ends after the prefix.
    #[error("the URL names no party")]
    MissingParty,
    /// The path ends after the party.
    #[error("the URL names no room")]
    MissingRoom,
}

impl RouteError {
    /// The status to answer with. See [`RouteError`] for an example.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::MissingParty | Self::MissingRoom => StatusCode::NOT_FOUND,
            Self::Encoding | Self::InvalidConnectionId(_) | Self::InvalidRoomId(_) => {
                StatusCode::BAD_REQUEST
            }
        }
    }
}

/// The first value of a query parameter, decoded as browsers do it: `+` is a space, and bad encoding stays as
/// it is or becomes U+FFFD.
pub(crate) fn query_value(query: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// Percent-decodes. Fails if the encoding is bad.
pub(crate) fn decode(text: &str) -> Result<Cow<'_, str>, RouteError> {
    // A loop: a search that is made for long texts takes longer to begin than this to end.
    if !text.bytes().any(|byte| byte == b'%') {
        return Ok(Cow::Borrowed(text));
    }
    let is_hex = |digit: Option<&u8>| digit.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    let is_well_formed = |at: usize| is_hex(bytes.get(at + 1)) && is_hex(bytes.get(at + 2));
    if !text.match_indices('%').all(|(at, _)| is_well_formed(at)) {
        return Err(RouteError::Encoding);
    }
    percent_decode_str(text).decode_utf8().map_err(|_| RouteError::Encoding)
}

/// Takes the next segment that is not empty off the front of a path.
fn next_segment<'a>(path: &mut &'a str) -> Option<&'a str> {
    let begin = path.bytes().position(|byte| byte != b'/').unwrap_or(path.len());
    let trimmed = &path[begin..];
    let end = trimmed.bytes().position(|byte| byte == b'/').unwrap_or(trimmed.len());
    let (segment, rest) = trimmed.split_at(end);
    *path = rest;
    (!segment.is_empty()).then_some(segment)
}

/// What the WHATWG URL standard encodes in a path. `%` is not in it, so encoded parts stay as they are.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// What has to be encoded inside of a segment: also `/`, which would end it, `%`, and `\`, which browsers
/// take for a slash.
const SEGMENT: &AsciiSet = &PATH.add(b'/').add(b'%').add(b'\\');

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(path: &str) -> Result<Option<(String, String, String)>, RouteError> {
        let route = RoutePrefix::default().parse(path)?;
        Ok(route.map(|it| (it.party().into(), it.room().to_string(), it.rest().into())))
    }

    fn found(
        party: &str,
        room: &str,
        rest: &str,
    ) -> Result<Option<(String, String, String)>, RouteError> {
        Ok(Some((party.into(), room.into(), rest.into())))
    }

    #[test]
    fn reads_what_partysocket_writes() {
        assert_eq!(parse("/parties/main/lobby"), found("main", "lobby", ""));
        assert_eq!(parse("/parties/main/lobby/"), found("main", "lobby", ""));
        assert_eq!(parse("/parties/main/lobby/a/b"), found("main", "lobby", "a/b"));
        assert_eq!(parse("/parties//main///lobby//a"), found("main", "lobby", "/a"));
        assert_eq!(
            parse("/parties/my%20party/caf%C3%A9%2F1/a%2Fb"),
            found("my party", "café/1", "a%2Fb")
        );
        assert_eq!(parse("/parties/main/a+b"), found("main", "a+b", ""));
        assert_eq!(parse("/%70arties/main/lobby"), found("main", "lobby", ""));
    }

    #[test]
    fn leaves_other_paths_alone() {
        for path in [
            "",
            "/",
            "*",
            "/party",
            "/party/",
            "/partyx/a",
            "/partiesx/main/a",
            "/Parties/main/a",
            "/%zz/main/a",
        ] {
            assert_eq!(parse(path), Ok(None), "{path}");
        }
    }

    #[test]
    fn the_short_form_is_for_the_party_main() {
        assert_eq!(parse("/party/lobby"), found("main", "lobby", ""));
        assert_eq!(parse("//%70arty//my%20room/a/b"), found("main", "my room", "a/b"));
        assert_eq!(parse("/party/%zz"), Err(RouteError::Encoding));
        for prefix in ["", "api", "parties/v1"] {
            let route = RoutePrefix::new(prefix).parse("/party/lobby").unwrap();
            assert!(route.is_none_or(|route| route.party() == "party"), "{prefix}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(parse("/parties"), Err(RouteError::MissingParty));
        assert_eq!(parse("/parties/"), Err(RouteError::MissingParty));
        assert_eq!(parse("/parties/main"), Err(RouteError::MissingRoom));
        assert_eq!(parse("/parties/main//"), Err(RouteError::MissingRoom));
        for bad in ["%", "%2", "%zz", "a%", "%%41", "%+1", "%ff", "%C3", "%é"] {
            assert_eq!(parse(&format!("/parties/main/{bad}")), Err(RouteError::Encoding), "{bad}");
            assert_eq!(parse(&format!("/parties/{bad}/a")), Err(RouteError::Encoding), "{bad}");
        }
        let longest = "%41".repeat(RoomId::MAX_LEN);
        assert_eq!(
            parse(&format!("/parties/main/{longest}")),
            found("main", &"A".repeat(1024), "")
        );
        let error = parse(&format!("/parties/main/{longest}A")).unwrap_err();
        assert!(matches!(error, RouteError::InvalidRoomId(_)));
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_prefix_is_its_segments() {
        for prefix in ["api/v1", "/api/v1", "api/v1/", "//api//v1//"] {
            let prefix = RoutePrefix::new(prefix);
            assert_eq!(prefix, RoutePrefix::new("api/v1"));
            let route = prefix.parse("/api/v1/main/a").unwrap().unwrap();
            assert_eq!(prefix.path(&route), "/api/v1/main/a");
            assert_eq!(prefix.parse("/api/main/a"), Ok(None));
            assert_eq!(prefix.parse("/api"), Ok(None));
        }
        let root = RoutePrefix::new("/");
        assert_eq!(root.parse("/main/a").unwrap().unwrap().room().as_str(), "a");
    }

    /// Any text, and much of what is special in a URL.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z]{1,8}", "[ -~]{1,12}", "[/%.?#\\\\\\x00]{1,5}", "\\PC{1,12}"]
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(
            prefix in prop_oneof![Just(String::new()), text()],
            party in text(),
            room in text(),
            rest in prop_oneof![Just(String::new()), text()],
        ) {
            let prefix = RoutePrefix::new(prefix);
            let route = Route::new(RoomAddress::new(party, RoomId::new(room).unwrap()))
                .with_rest(&rest);
            let path = prefix.path(&route);
            prop_assert_eq!(prefix.parse(&path), Ok(Some(route)));
            let uri: http::Uri = path.parse().unwrap();
            prop_assert_eq!(uri.path_and_query().map(|it| it.as_str()), Some(path.as_str()));
            prop_assert_eq!(uri.query(), None);
        }

        #[test]
        fn whatever_a_path_says_it_does_not_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            start in prop::sample::select(vec!["", "/", "/parties/", "/parties/main/"]),
        ) {
            let path = format!("{start}{}", String::from_utf8_lossy(&bytes));
            if let Ok(Some(route)) = RoutePrefix::default().parse(&path) {
                let path = RoutePrefix::default().path(&route);
                prop_assert_eq!(RoutePrefix::default().parse(&path), Ok(Some(route)));
            }
        }
    }
}
