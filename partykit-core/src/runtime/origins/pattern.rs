use std::net::IpAddr;

use http::uri::Authority;

/// Pages that have no host: of sandboxed frames, of files, of web views.
const WITHOUT_HOST: [&str; 2] = ["null", "file://"];

/// Why a text is not a valid origin or host.
///
/// ```
/// use partykit_core::runtime::Origins;
///
/// let error = Origins::default().allow("https://*").unwrap_err();
/// assert!(error.to_string().starts_with("\"https://*\" is not an origin: "));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: {problem}")]
pub struct InvalidOrigin {
    text: String,
    what: &'static str,
    problem: &'static str,
}

/// A page's origin: a scheme, a host and a port, in the one spelling that browsers use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Hosted {
        scheme: String,
        name: String,
        port: Option<u16>,
    },
    /// One of [`WITHOUT_HOST`].
    Bare(&'static str),
}

/// Which origins are meant.
#[derive(Clone, Debug)]
pub(super) enum OriginPattern {
    Hosted { scheme: String, host: HostPattern },
    Bare(&'static str),
}

/// Which hosts are meant: one, or all whose names end in its name.
#[derive(Clone, Debug)]
pub(super) struct HostPattern {
    is_wild: bool,
    name: String,
    port: Option<u16>,
}

impl Origin {
    /// What a browser sends.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(bare) = bare(text) {
            return Some(Self::Bare(bare));
        }
        let (scheme, authority) = split(text)?;
        let authority = parse_host(authority)?;
        let (name, port) = (authority.host().to_ascii_lowercase(), authority.port_u16());
        Some(Self::Hosted { port: unless_default(&scheme, port), scheme, name })
    }

    /// Whether this page can be the server's own: a web page, and one that came over TLS if the request did.
    pub(super) fn is_of_web(&self, is_encrypted: bool) -> bool {
        match self {
            Self::Hosted { scheme, .. } => scheme == "https" || (scheme == "http" && !is_encrypted),
            Self::Bare(_) => false,
        }
    }

    /// Whether this is a page of this machine.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Hosted { name, .. } if is_local(name))
    }

    /// Whether this is a page of the host that a request was sent to.
    pub(super) fn is_on(&self, host: &Authority) -> bool {
        let Self::Hosted { scheme, name, port } = self else { return false };
        *name == host.host().to_ascii_lowercase()
            && *port == unless_default(scheme, host.port_u16())
    }
}

impl OriginPattern {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        if let Some(bare) = bare(text) {
            return Ok(Self::Bare(bare));
        }
        let bad = |problem| {
            let (text, what) = (text.to_owned(), "an origin");
            InvalidOrigin { text, what, problem }
        };
        if text == "*" {
            return Err(bad("to let every page in, use allow_any_origin"));
        }
        let spelled = text.strip_suffix('/').unwrap_or(text);
        let (scheme, host) = split(spelled)
            .ok_or_else(|| bad("it has to begin with a scheme, as in https://example.com"))?;
        let mut host = HostPattern::parse(host).map_err(bad)?;
        host.port = unless_default(&scheme, host.port);
        Ok(Self::Hosted { scheme, host })
    }

    pub(super) fn matches(&self, origin: &Origin) -> bool {
        match (self, origin) {
            (Self::Hosted { scheme, host }, Origin::Hosted { scheme: theirs, name, port }) => {
                scheme == theirs && host.is_named(name) && host.port == *port
            }
            (Self::Bare(bare), Origin::Bare(theirs)) => bare == theirs,
            _ => false,
        }
    }
}

impl HostPattern {
    /// A host that stands alone.
    pub(super) fn parse_host(text: &str) -> Result<Self, InvalidOrigin> {
        let what = "a host";
        Self::parse(text).map_err(|problem| InvalidOrigin { text: text.to_owned(), what, problem })
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let (is_wild, plain) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if plain.contains('*') {
            return Err("a * stands only for labels in front of a host, as in *.example.com");
        }
        if !plain.is_ascii() {
            return Err("names with other letters than ASCII are written as xn--..");
        }
        let authority = parse_host(plain).ok_or(
            "it has to be a host and at most a port, as in example.com or example.com:8080",
        )?;
        let name = authority.host().to_ascii_lowercase();
        let is_address = name.starts_with('[') || name.parse::<IpAddr>().is_ok();
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_numeric = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
        if is_wild && (is_address || is_numeric || (!name.contains('.') && name != "localhost")) {
            return Err("a * needs a domain of its own behind it, as in *.example.com");
        }
        Ok(Self { is_wild, name, port: authority.port_u16() })
    }

    /// Whether this name, in lower case, is meant.
    pub(super) fn is_named(&self, name: &str) -> bool {
        if !self.is_wild {
            return *self.name == *name;
        }
        let front = name.strip_suffix(&*self.name).and_then(|front| front.strip_suffix('.'));
        front.is_some_and(|labels| !labels.is_empty() && !labels.contains('*'))
    }

    /// Whether this is a page of one of the hosts. Without a port, it is at the scheme's own.
    pub(super) fn has(&self, origin: &Origin) -> bool {
        let Origin::Hosted { scheme, name, port } = origin else { return false };
        self.is_named(name) && unless_default(scheme, self.port) == *port
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
    fitting(text.parse().ok()?)
}

/// The authority, if it is a host and maybe a port.
fn fitting(authority: Authority) -> Option<Authority> {
    let text = authority.as_str();
    let has_odd_port = authority.port().is_none() && text.rsplit(']').next()?.contains(':');
    (!text.contains('@') && !authority.host().is_empty() && !has_odd_port).then_some(authority)
}

/// Whether an origin is a web page of this host, in the same spelling. If not, it may be so in another one.
pub(super) fn is_page_of(origin: &str, host: &Authority, is_encrypted: bool) -> bool {
    let plain = || origin.strip_prefix("http://").filter(|_| !is_encrypted);
    let authority = origin.strip_prefix("https://").or_else(plain);
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str()))
}

/// Whether a host is this machine, and cannot be another one.
pub(super) fn is_local(name: &str) -> bool {
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost")
        || address.unwrap_or(name).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn bare(text: &str) -> Option<&'static str> {
    WITHOUT_HOST.into_iter().find(|bare| *bare == text)
}

/// The scheme, in lower case, and what follows it.
fn split(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = |c: u8| c.is_ascii_alphanumeric() || b"+-.".contains(&c);
    let is_well = !scheme.is_empty() && scheme.bytes().all(is_scheme);
    is_well.then(|| (scheme.to_ascii_lowercase(), rest))
}

fn unless_default(scheme: &str, port: Option<u16>) -> Option<u16> {
    let default = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    port.filter(|port| Some(*port) != default)
}
