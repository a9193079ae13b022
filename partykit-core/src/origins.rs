use crate::{Body, Response};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
        ORIGIN, VARY,
    },
    uri::Authority,
};

/// How long a browser may remember a preflight's answer, in seconds: a day, as PartyServer says.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

/// Which pages of the web may talk to rooms. One list for plain requests, where it is told to the
/// browser (CORS), and for WebSockets, where browsers do not ask and the server has to refuse. Without any,
/// the pages of the host that is asked may.
///
/// ```
/// use http::{HeaderMap, header::ORIGIN};
/// use partykit_core::runtime::{Origins, Visitor, parse_host};
///
/// let mut origins = Origins::default();
/// assert!(origins.allow("https://example.com"));
/// let mut headers = HeaderMap::new();
/// headers.insert(ORIGIN, "https://elsewhere.com".parse().unwrap());
/// assert_eq!(origins.judge(&headers, parse_host("rooms.com").as_ref()), Visitor::Foreign);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Origins {
    any: bool,
    listed: Vec<Origin>,
}

/// Where a request says it comes from. See [`Origins`] for an example.
///
/// ```
/// use http::HeaderMap;
/// use partykit_core::runtime::{Origins, Visitor};
///
/// assert_eq!(Origins::default().judge(&HeaderMap::new(), None), Visitor::Unknown);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "nobody, a friend, or a stranger")]
pub enum Visitor {
    /// No page of a browser: there is no `Origin`.
    Unknown,
    /// A page of this origin, which may talk to rooms.
    Allowed(HeaderValue),
    /// A page that may not.
    Foreign,
}

impl Origins {
    /// Lets every page talk to rooms.
    pub fn allow_any(&mut self) {
        self.any = true;
    }

    /// Adds one origin; `false` when it is not one.
    pub fn allow(&mut self, origin: &str) -> bool {
        let origin = Origin::parse(origin.strip_suffix('/').unwrap_or(origin));
        let is_origin = origin.is_some();
        self.listed.extend(origin);
        is_origin
    }

    /// Judges the `Origin` of a request that was sent to `host`.
    pub fn judge(&self, headers: &HeaderMap, host: Option<&Authority>) -> Visitor {
        let mut values = headers.get_all(ORIGIN).iter();
        let Some(value) = values.next() else { return Visitor::Unknown };
        if values.next().is_some() {
            return Visitor::Foreign;
        }
        let origin = value.to_str().ok().and_then(Origin::parse);
        let is_known = origin.is_some_and(|origin| {
            self.listed.contains(&origin) || host.is_some_and(|host| origin.is_on(host))
        });
        if self.any || is_known { Visitor::Allowed(value.clone()) } else { Visitor::Foreign }
    }

    /// Tells the browser that the page may read this answer of a room, if it may.
    pub fn stamp(&self, visitor: &Visitor, headers: &mut HeaderMap) {
        if !self.any {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Visitor::Allowed(origin) = visitor {
            let origin = if self.any { HeaderValue::from_static("*") } else { origin.clone() };
            headers.entry(ACCESS_CONTROL_ALLOW_ORIGIN).or_insert(origin);
        }
    }

    /// The answer to a browser that asks before it sends: whatever it wants to send is allowed, if its
    /// page is. What only looks like such a question has none.
    pub fn preflight(method: &Method, headers: &HeaderMap, visitor: &Visitor) -> Option<Response> {
        let wanted = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        if method != Method::OPTIONS || *visitor == Visitor::Unknown {
            return None;
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        let asked = "access-control-request-method, access-control-request-headers";
        answer.append(VARY, HeaderValue::from_static(asked));
        if let Visitor::Allowed(_) = visitor {
            answer.insert(ACCESS_CONTROL_ALLOW_METHODS, wanted.clone());
            if let Some(wanted) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
                answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
            }
            answer.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        }
        Some(response)
    }
}

/// A scheme, a host and a port, in the one spelling that browsers use: lower case, no default port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    authority: String,
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = |c: u8| c.is_ascii_alphanumeric() || b"+-.".contains(&c);
        if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let authority = parse_host(authority)?;
        Some(Self { authority: spell(&scheme, &authority), scheme })
    }

    /// Whether this is a page of the host that a request was sent to. The schemes may differ: whoever
    /// ends TLS in front of this server leaves `https` in the one and plain HTTP in the other.
    fn is_on(&self, host: &Authority) -> bool {
        matches!(self.scheme.as_str(), "http" | "https")
            && self.authority == spell(&self.scheme, host)
    }
}

/// A host and maybe a port, and nothing else: what a `Host` header says.
///
/// ```
/// use partykit_core::runtime::parse_host;
///
/// assert!(parse_host("example.com:8080").is_some());
/// assert!(parse_host("me@example.com").is_none());
/// ```
pub fn parse_host(text: &str) -> Option<Authority> {
    let authority: Authority = text.parse().ok()?;
    let has_odd_port = authority.port().is_none() && text.rsplit(']').next()?.contains(':');
    (!text.contains('@') && !authority.host().is_empty() && !has_odd_port).then_some(authority)
}

fn spell(scheme: &str, authority: &Authority) -> String {
    let default = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let host = authority.host().to_ascii_lowercase();
    match authority.port_u16().filter(|port| Some(*port) != default) {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visitor(origins: &Origins, origin: &str, host: &str) -> Visitor {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, origin.parse().unwrap());
        origins.judge(&headers, parse_host(host).as_ref())
    }

    fn is_allowed(origins: &Origins, origin: &str, host: &str) -> bool {
        matches!(visitor(origins, origin, host), Visitor::Allowed(_))
    }

    #[test]
    fn the_same_host_is_the_same_text() {
        let origins = Origins::default();
        for (origin, host, allowed) in [
            ("http://host.com", "host.com", true),
            ("https://host.com", "host.com", true),
            ("https://HOST.com", "host.COM", true),
            ("https://host.com", "host.com:443", true),
            ("http://host.com", "host.com:80", true),
            ("http://host.com:80", "host.com", true),
            ("http://host.com:1999", "host.com:1999", true),
            ("http://[::1]:1999", "[::1]:1999", true),
            ("http://[::1]", "[::1]:80", true),
            ("https://host.com", "host.com:80", false),
            ("http://host.com:2000", "host.com:1999", false),
            ("http://host.com:1999", "host.com", false),
            ("http://other.com", "host.com", false),
            ("http://evil-host.com", "host.com", false),
            ("http://host.evil.com", "host.com", false),
            ("http://host.com.", "host.com", false),
            ("http://host.com@evil.com", "evil.com", false),
            ("http://evil.com@host.com", "host.com", false),
            ("http://host.com/path", "host.com", false),
            ("http://host.com/", "host.com", false),
            ("http://host.com?", "host.com", false),
            ("ftp://host.com", "host.com", false),
            ("host.com", "host.com", false),
            ("//host.com", "host.com", false),
            ("null", "null", false),
            ("", "host.com", false),
            ("http://", "host.com", false),
            ("http://host.com http://host.com", "host.com", false),
            ("http://[::1]", "[::2]", false),
        ] {
            assert_eq!(is_allowed(&origins, origin, host), allowed, "{origin} at {host}");
        }
    }

    #[test]
    fn a_list_has_whole_origins() {
        let mut origins = Origins::default();
        assert!(origins.allow("https://app.com") && origins.allow("http://localhost:5173/"));
        assert!(origins.allow("tauri://localhost"));
        for (origin, allowed) in [
            ("https://app.com", true),
            ("https://app.com:443", true),
            ("http://localhost:5173", true),
            ("tauri://localhost", true),
            ("http://host.com", true),
            ("http://app.com", false),
            ("https://app.com:8443", false),
            ("https://my.app.com", false),
            ("http://localhost", false),
            ("null", false),
        ] {
            assert_eq!(is_allowed(&origins, origin, "host.com"), allowed, "{origin}");
        }
        for no_origin in ["app.com", "https://app.com/a", "https://", "null", "*", "https://a@b"] {
            assert!(!origins.allow(no_origin), "{no_origin}");
        }
    }

    #[test]
    fn two_origins_are_none_that_is_known() {
        let mut headers = HeaderMap::new();
        assert_eq!(Origins::default().judge(&headers, None), Visitor::Unknown);
        headers.append(ORIGIN, HeaderValue::from_static("http://host.com"));
        headers.append(ORIGIN, HeaderValue::from_static("http://host.com"));
        let host = parse_host("host.com");
        assert_eq!(Origins::default().judge(&headers, host.as_ref()), Visitor::Foreign);
    }

    #[test]
    fn any_origin_is_any() {
        let mut origins = Origins::default();
        origins.allow_any();
        assert!(is_allowed(&origins, "null", "host.com"));
        let mut headers = HeaderMap::new();
        origins.stamp(&visitor(&origins, "https://x.com", "host.com"), &mut headers);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    }
}
