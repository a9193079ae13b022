mod pattern;

pub use pattern::{InvalidOrigin, parse_host};

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
        ORIGIN, VARY,
    },
    uri::Authority,
};

use self::pattern::{HostPattern, Origin, OriginPattern, is_local, is_page_of};
use crate::{Body, Response};

/// How long a browser may remember a preflight's answer, in seconds: a day, as PartyServer says.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

/// Which web pages may talk to rooms. One list is used for plain requests, where the browser is told (CORS),
/// and for WebSockets, where the server has to refuse other pages. With an empty list, only pages of the
/// server's own host may.
///
/// In a debug build, a server that is asked as `localhost` or by a loopback address also lets in all pages
/// that come from there, with any port: a page under development has a server of its own.
///
/// ```
/// use http::{HeaderMap, header::ORIGIN};
/// use partykit_core::runtime::{Origins, Visitor, parse_host};
///
/// let mut origins = Origins::default();
/// origins.allow("https://example.com")?;
/// let mut headers = HeaderMap::new();
/// headers.insert(ORIGIN, "https://elsewhere.com".parse()?);
/// assert_eq!(origins.judge(&headers, parse_host("rooms.com").as_ref(), true), Visitor::Foreign);
/// # Ok::<(), partykit_core::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Origins {
    any: bool,
    /// Of this machine to this machine. No page that came over the network has such an origin.
    local: bool,
    listed: Vec<OriginPattern>,
    hosts: Vec<HostPattern>,
}

/// The page that sent a request, as its `Origin` says. See [`Origins`] for an example.
///
/// ```
/// use http::HeaderMap;
/// use partykit_core::runtime::{Origins, Visitor};
///
/// assert_eq!(Origins::default().judge(&HeaderMap::new(), None, false), Visitor::Unknown);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "no origin, an allowed one, or a foreign one")]
pub enum Visitor {
    /// No page of a browser: there is no `Origin`.
    Unknown,
    /// A page of this origin, which may talk to rooms.
    Allowed(HeaderValue),
    /// A page that may not.
    Foreign,
}

impl Default for Origins {
    fn default() -> Self {
        let local = cfg!(debug_assertions);
        Self { any: false, local, listed: Vec::new(), hosts: Vec::new() }
    }
}

impl Origins {
    /// Lets every page talk to rooms.
    pub fn allow_any(&mut self) {
        self.any = true;
    }

    /// Adds an origin: `https://example.com`, or with a wildcard, `https://*.example.com`. A wildcard stands
    /// for one or more labels in front of the host, but not for the host itself, a scheme or a port. `null`
    /// and `file://` are pages without a host. [`InvalidOrigin`] says what is not an origin.
    ///
    /// # Errors
    ///
    /// When it is not an origin, or has a wildcard in another place.
    pub fn allow(&mut self, origin: &str) -> Result<(), InvalidOrigin> {
        self.listed.push(OriginPattern::parse(origin)?);
        Ok(())
    }

    /// Whether a page of this machine may talk to a server that is asked as `localhost` or by a loopback
    /// address, also if the ports differ. Default: in debug builds only.
    pub fn allow_localhost(&mut self, allowed: bool) {
        self.local = allowed;
    }

    /// The same server, without the pages that are listed.
    pub(crate) fn without_pages(&self) -> Self {
        Self { any: false, listed: Vec::new(), hosts: self.hosts.clone(), local: self.local }
    }

    /// Adds a name of this server, as clients use it: `example.com`, `example.com:8443`, or with the same
    /// wildcard as an origin. Pages of these hosts may talk to rooms, and no other host is [answered
    /// for](Origins::answers_for).
    ///
    /// # Errors
    ///
    /// When it is not a host.
    pub fn add_host(&mut self, host: &str) -> Result<(), InvalidOrigin> {
        self.hosts.push(HostPattern::parse_host(host)?);
        Ok(())
    }

    /// Whether a request to this host is meant for this server. (A page that uses DNS rebinding asks for its
    /// own name.) Without names of the server, every host is accepted. Addresses and `localhost` are always
    /// accepted, because an attacker cannot make them point elsewhere. Ports are ignored, because some
    /// proxies leave them out.
    pub fn answers_for(&self, host: Option<&Authority>) -> bool {
        let Some(host) = host.filter(|_| !self.hosts.is_empty()) else { return true };
        let name = host.host().to_ascii_lowercase();
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        address.unwrap_or(&name).parse::<IpAddr>().is_ok()
            || name == "localhost"
            || self.hosts.iter().any(|own| own.is_named(&name))
    }

    /// Judges the `Origin` of a request that was sent to `host`.
    ///
    /// `is_encrypted` says that the client certainly used TLS. Then its page has to come over TLS too. If it
    /// is not certain, a proxy may have ended TLS in front of this server, so both `http` and `https` pages
    /// of the host are accepted.
    pub fn judge(
        &self,
        headers: &HeaderMap,
        host: Option<&Authority>,
        is_encrypted: bool,
    ) -> Visitor {
        let mut values = headers.get_all(ORIGIN).iter();
        let Some(value) = values.next() else { return Visitor::Unknown };
        if values.next().is_some() {
            return Visitor::Foreign;
        }
        let text = value.to_str().ok();
        // Nearly every page is the server's own, and spelled as the host is.
        let is_plainly_own = |text| host.is_some_and(|host| is_page_of(text, host, is_encrypted));
        if self.any || text.is_some_and(is_plainly_own) {
            return Visitor::Allowed(value.clone());
        }
        let is_known = text.and_then(Origin::parse).is_some_and(|origin| {
            let is_own = || host.is_some_and(|host| origin.is_on(host));
            let is_ours = || self.hosts.iter().any(|own| own.has(&origin));
            let is_near = || {
                self.local && origin.is_local() && host.is_some_and(|host| is_local(host.host()))
            };
            self.listed.iter().any(|listed| listed.matches(&origin))
                || (origin.is_of_web(is_encrypted) && (is_own() || is_ours() || is_near()))
        });
        if is_known { Visitor::Allowed(value.clone()) } else { Visitor::Foreign }
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

    /// The answer to a browser that asks before it sends: everything that it wants to send is allowed, if its
    /// page is. Returns `None` if it is not such a question.
    pub fn preflight(method: &Method, headers: &HeaderMap, visitor: &Visitor) -> Option<Response> {
        if method != Method::OPTIONS || *visitor == Visitor::Unknown {
            return None;
        }
        let wanted = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_this_machine_can_be_let_in_or_not_in_any_build() {
        let mut origins = Origins::default();
        for is_on in [true, false] {
            origins.allow_localhost(is_on);
            for (origin, host) in [
                ("http://localhost:5173", "localhost:1999"),
                ("http://localhost:5173", "127.0.0.1:1999"),
                ("http://[::1]:5173", "localhost:1999"),
            ] {
                assert_eq!(is_allowed(&origins, origin, host), is_on, "{origin} at {host}");
            }
            assert!(!is_allowed(&origins, "http://localhost:5173", "rooms.example"));
        }
    }

    fn visitor(origins: &Origins, origin: &str, host: &str) -> Visitor {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, origin.parse().unwrap());
        origins.judge(&headers, parse_host(host).as_ref(), false)
    }

    fn is_allowed(origins: &Origins, origin: &str, host: &str) -> bool {
        matches!(visitor(origins, origin, host), Visitor::Allowed(_))
    }

    #[test]
    fn pages_of_this_machine_come_to_this_machine_in_debug_builds_only() {
        let [debug, release] = [true, false].map(|local| Origins { local, ..Origins::default() });
        for (origin, host, allowed) in [
            ("http://localhost:5173", "localhost:1999", true),
            ("https://localhost:5173", "localhost:1999", true),
            ("http://LOCALHOST:5173", "127.0.0.1:1999", true),
            ("http://127.0.0.1:5173", "localhost:1999", true),
            ("http://127.9.9.9:5173", "LocalHost:1999", true),
            ("http://[::1]:5173", "localhost", true),
            ("http://localhost:5173", "[::1]:1999", true),
            ("http://localhost:5173", "rooms.com", false),
            ("http://localhost:5173", "192.168.0.2:1999", false),
            ("http://192.168.0.2:5173", "localhost:1999", false),
            ("http://rooms.com", "localhost:1999", false),
            ("http://localhost.rooms.com", "localhost:1999", false),
            ("http://rooms.localhost:5173", "localhost:1999", false),
            ("http://127.0.0.1.rooms.com", "localhost:1999", false),
            ("http://[::2]:5173", "localhost:1999", false),
            ("http://0.0.0.0:5173", "localhost:1999", false),
            ("capacitor://localhost", "localhost:1999", false),
            ("null", "localhost:1999", false),
            ("file://", "localhost:1999", false),
        ] {
            assert_eq!(is_allowed(&debug, origin, host), allowed, "{origin} at {host}");
            assert!(!is_allowed(&release, origin, host), "{origin} at {host}");
        }
        assert_eq!(Origins::default().local, cfg!(debug_assertions));
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
        for origin in ["https://app.com", "http://localhost:5173/", "tauri://localhost"] {
            origins.allow(origin).unwrap();
        }
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
    }

    #[test]
    fn a_wildcard_is_for_labels_in_front() {
        let mut origins = Origins::default();
        origins.allow("https://*.example.com").unwrap();
        origins.allow("http://*.localhost:5173").unwrap();
        for (origin, allowed) in [
            ("https://a.example.com", true),
            ("https://A.EXAMPLE.com:443", true),
            ("https://a.b.example.com", true),
            ("http://app.localhost:5173", true),
            ("https://example.com", false),
            ("https://.example.com", false),
            ("https://evil-example.com", false),
            ("https://a.example.com.evil.com", false),
            ("https://a.example.com:8443", false),
            ("http://a.example.com", false),
            ("http://app.localhost:5174", false),
            ("https://*.example.com", false),
        ] {
            assert_eq!(is_allowed(&origins, origin, "host.com"), allowed, "{origin}");
        }
    }

    #[test]
    fn what_could_match_nothing_is_refused_when_it_is_listed() {
        for no_origin in [
            "app.com",
            "https://app.com/a",
            "https://",
            "*",
            "https://*",
            "https://*:443",
            "https://*.com",
            "https://*.0.0.1",
            "https://a.*.com",
            "https://a*.example.com",
            "https://*.*.example.com",
            "*://example.com",
            "http://localhost:*",
            "https://a@b",
            "https://b\u{fc}cher.example",
            "NULL",
            "file:///a",
            "",
        ] {
            let error = Origins::default().allow(no_origin).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{no_origin:?} is not an origin: ")), "{error}");
        }
        for no_host in ["https://app.com", "app.com/", "*", "*.com", "a:b", "app.com:*", ""] {
            let error = Origins::default().add_host(no_host).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{no_host:?} is not a host: ")), "{error}");
        }
    }

    #[test]
    fn pages_without_a_host_can_be_listed() {
        let mut origins = Origins::default();
        assert!(!is_allowed(&origins, "null", "host.com"));
        assert!(!is_allowed(&origins, "file://", "host.com"));
        origins.allow("null").unwrap();
        assert!(is_allowed(&origins, "null", "host.com"));
        assert!(!is_allowed(&origins, "file://", "host.com"));
        origins.allow("file://").unwrap();
        assert!(is_allowed(&origins, "file://", "host.com"));
        assert!(!is_allowed(&origins, "file:///etc/passwd", "host.com"));
    }

    #[test]
    fn over_tls_only_pages_that_came_by_tls_are_our_own() {
        let mut headers = HeaderMap::new();
        let mut allowed = |origin: &'static str, origins: &Origins| {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            let visitor = origins.judge(&headers, parse_host("host.com").as_ref(), true);
            matches!(visitor, Visitor::Allowed(_))
        };
        let mut origins = Origins::default();
        assert!(allowed("https://host.com", &origins));
        assert!(!allowed("http://host.com", &origins));
        origins.add_host("app.com").unwrap();
        assert!(allowed("https://app.com", &origins) && !allowed("http://app.com", &origins));
        origins.allow("http://host.com").unwrap();
        assert!(allowed("http://host.com", &origins), "it is listed");
    }

    #[test]
    fn own_hosts_are_all_there_are() {
        let mut origins = Origins::default();
        let answers =
            |origins: &Origins, host: &str| origins.answers_for(parse_host(host).as_ref());
        assert!(answers(&origins, "evil.example") && origins.answers_for(None));
        for host in ["app.example:8080", "www.app.example", "*.rooms.example"] {
            origins.add_host(host).unwrap();
        }
        for (host, ours) in [
            ("app.example:8080", true),
            ("APP.example", true),
            ("www.app.example:1", true),
            ("a.rooms.example", true),
            ("127.0.0.1:1999", true),
            ("[::1]:1999", true),
            ("localhost", true),
            ("rooms.example", false),
            ("evil.example", false),
            ("app.example.evil.example", false),
            ("app.example.", false),
            ("1.evil.example", false),
        ] {
            assert_eq!(answers(&origins, host), ours, "{host}");
        }
        // Pages of our hosts are our own, no matter which host a proxy asks for.
        for (origin, allowed) in [
            ("http://app.example:8080", true),
            ("https://app.example:8080", true),
            ("https://www.app.example", true),
            ("https://a.rooms.example", true),
            ("http://app.example", false),
            ("http://www.app.example:8080", false),
            ("ftp://www.app.example", false),
            ("http://evil.example", false),
        ] {
            assert_eq!(is_allowed(&origins, origin, "127.0.0.1:1999"), allowed, "{origin}");
        }
    }

    #[test]
    fn two_origins_are_none_that_is_known() {
        let mut headers = HeaderMap::new();
        assert_eq!(Origins::default().judge(&headers, None, false), Visitor::Unknown);
        headers.append(ORIGIN, HeaderValue::from_static("http://host.com"));
        headers.append(ORIGIN, HeaderValue::from_static("http://host.com"));
        let host = parse_host("host.com");
        assert_eq!(Origins::default().judge(&headers, host.as_ref(), false), Visitor::Foreign);
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
