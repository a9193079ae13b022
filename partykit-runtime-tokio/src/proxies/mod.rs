//! What trusted reverse proxies say about clients.

mod forwarded;

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, request::Parts, uri::Authority};
use ipnet::IpNet;
use partykit_core::runtime::parse_host;

use self::forwarded::Element;

/// The address of a request's client. It is in the request's extensions, for before-hooks, handlers and the
/// fallback.
///
/// It is the peer's address, or the address that a [trusted proxy](crate::Builder::trusted_proxies) names. It
/// is missing if neither is known, for example for a Unix socket whose proxy is not trusted.
///
/// ```
/// use partykit_core::Request;
/// use partykit_runtime_tokio::ClientAddress;
///
/// fn is_local(request: &Request) -> bool {
///     let client = request.extensions().get::<ClientAddress>();
///     client.is_some_and(|ClientAddress(address)| address.is_loopback())
/// }
/// # let _ = is_local;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "it is an address and nothing else")]
pub struct ClientAddress(pub IpAddr);

/// The headers of trusted proxies that are read. The others are ignored, because a proxy may pass a header on
/// that it does not set itself.
///
/// ```
/// use partykit_runtime_tokio::{ProxyHeaders, Runtime};
///
/// let builder = Runtime::builder()
///     .trusted_proxies(["10.0.0.0/8"])
///     .proxy_headers(ProxyHeaders::Forwarded);
/// # let _ = builder;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyHeaders {
    /// `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host`: what nearly all proxies set.
    #[default]
    XForwarded,
    /// `Forwarded`, RFC 7239.
    Forwarded,
}

/// The trusted proxies.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    networks: Vec<IpNet>,
    /// Whether all connections over a Unix socket are trusted.
    unix: bool,
    pub(crate) headers: ProxyHeaders,
}

/// What a proxy says about its client.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The client's address.
    pub(crate) client: Option<IpAddr>,
    /// Whether the client used TLS.
    pub(crate) is_encrypted: Option<bool>,
    /// The host that the client asked for.
    pub(crate) host: Option<Authority>,
}

/// A trusted proxy names a host that is not valid.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadHost;

impl Proxies {
    /// # Errors
    ///
    /// When it is neither an address, nor a network, nor `unix:`.
    pub(crate) fn trust(&mut self, whom: &str) -> Result<(), String> {
        if whom == "unix:" {
            self.unix = true;
            return Ok(());
        }
        let network = whom.parse::<IpNet>().or_else(|_| whom.parse::<IpAddr>().map(IpNet::from));
        self.networks.push(network.map_err(|_| {
            format!("{whom:?} is not a proxy's address such as \"127.0.0.1\" or \"10.0.0.0/8\", nor \"unix:\"")
        })?);
        Ok(())
    }

    /// Whether this peer is trusted. `None` is the peer of a Unix socket.
    pub(crate) fn trusts(&self, peer: Option<IpAddr>) -> bool {
        match peer.map(|peer| peer.to_canonical()) {
            Some(peer) => self.networks.iter().any(|network| network.contains(&peer)),
            None => self.unix,
        }
    }

    /// What the peer of a request says about its client, if the peer is trusted.
    ///
    /// # Errors
    ///
    /// When the host that it names is not valid.
    pub(crate) fn read(
        &self,
        head: &Parts,
        peer: Option<SocketAddr>,
    ) -> Result<Option<Told>, BadHost> {
        let peer = peer.map(|peer| peer.ip());
        if !self.trusts(peer) {
            return Ok(None);
        }
        let hops = match self.headers {
            ProxyHeaders::XForwarded => x_forwarded(&head.headers),
            ProxyHeaders::Forwarded => forwarded::elements(&head.headers),
        };
        let client = self.client(peer, hops.iter().rev().map(|hop| hop.address));
        let said = match self.headers {
            // These lists can be shorter than the list of addresses. The nearest proxy counts.
            ProxyHeaders::XForwarded => Element {
                proto: last(&head.headers, "x-forwarded-proto"),
                host: last(&head.headers, "x-forwarded-host"),
                address: None,
            },
            // The proxy that names the client says how the client came.
            ProxyHeaders::Forwarded => {
                let trusted = hops.iter().rev().take_while(|hop| self.is_proxy(hop.address));
                let at = (trusted.count() + 1).min(hops.len());
                hops.into_iter().rev().nth(at.saturating_sub(1)).unwrap_or_default()
            }
        };
        let host = match said.host.map(|host| parse_host(&host)) {
            Some(None) => return Err(BadHost),
            host => host.flatten(),
        };
        let is_encrypted = said.proto.and_then(|proto| match &*proto.to_ascii_lowercase() {
            "https" | "wss" => Some(true),
            "http" | "ws" => Some(false),
            _ => None,
        });
        Ok(Some(Told { client, is_encrypted, host }))
    }

    fn is_proxy(&self, address: Option<IpAddr>) -> bool {
        address.is_some_and(|address| self.trusts(Some(address)))
    }

    /// Goes back from the peer, proxy by proxy, while each one is trusted. Earlier entries can be made up by
    /// any client.
    fn client(
        &self,
        peer: Option<IpAddr>,
        backwards: impl Iterator<Item = Option<IpAddr>>,
    ) -> Option<IpAddr> {
        let mut client = peer;
        for hop in backwards {
            let Some(address) = hop else { break };
            client = Some(address);
            if !self.trusts(client) {
                break;
            }
        }
        client
    }
}

/// The hops of `X-Forwarded-For`, the nearest last.
fn x_forwarded(headers: &HeaderMap) -> Vec<Element> {
    let items = values(headers, "x-forwarded-for").flat_map(|value| value.split(','));
    items
        .map(|item| Element { address: forwarded::node(item.trim()), ..Element::default() })
        .collect()
}

/// The last item of a list.
fn last(headers: &HeaderMap, name: &'static str) -> Option<String> {
    let item = values(headers, name).last()?.rsplit(',').next()?.trim();
    (!item.is_empty()).then(|| item.to_owned())
}

fn values<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(HeaderName::from_static(name)).into_iter();
    values.map(|value| value.to_str().unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(proxies: &Proxies, peer: Option<&str>, headers: &[(&str, &str)]) -> Option<Told> {
        let mut request = http::Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let head = request.body(()).unwrap().into_parts().0;
        let peer = peer.map(|peer| SocketAddr::new(peer.parse().unwrap(), 1));
        proxies.read(&head, peer).unwrap()
    }

    fn client(proxies: &Proxies, forwarded_for: &[&str]) -> Option<String> {
        let headers: Vec<_> = forwarded_for.iter().map(|it| ("x-forwarded-for", *it)).collect();
        let told = told(proxies, Some("127.0.0.1"), &headers).unwrap();
        told.client.map(|address| address.to_string())
    }

    fn proxies(trusted: &[&str]) -> Proxies {
        let mut proxies = Proxies::default();
        trusted.iter().for_each(|whom| proxies.trust(whom).unwrap());
        proxies
    }

    #[test]
    fn only_the_listed_are_trusted() {
        let proxies = proxies(&["127.0.0.1", "10.0.0.0/8", "fd00::/8"]);
        for (peer, trusted) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("10.1.2.3", true),
            ("fd12::1", true),
            ("127.0.0.2", false),
            ("11.0.0.1", false),
            ("::1", false),
        ] {
            assert_eq!(proxies.trusts(Some(peer.parse().unwrap())), trusted, "{peer}");
            assert_eq!(told(&proxies, Some(peer), &[]).is_some(), trusted, "{peer}");
        }
        assert!(!proxies.trusts(None));
        let mut unix = Proxies::default();
        unix.trust("unix:").unwrap();
        assert!(unix.trusts(None) && !unix.trusts(Some([127, 0, 0, 1].into())));
        for invalid in ["", "localhost", "10.0.0.0/33", "10.0.0", "*", "unix"] {
            assert!(Proxies::default().trust(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn the_client_is_in_front_of_the_last_trusted_proxy() {
        let proxies = proxies(&["127.0.0.1", "10.0.0.0/8"]);
        for (forwarded_for, found) in [
            (&[][..], "127.0.0.1"),
            (&["203.0.113.7"], "203.0.113.7"),
            (&["6.6.6.6, 203.0.113.7"], "203.0.113.7"),
            (&["6.6.6.6", "203.0.113.7"], "203.0.113.7"),
            (&["6.6.6.6, 203.0.113.7, 10.0.0.2"], "203.0.113.7"),
            (&["203.0.113.7, 10.0.0.9,10.0.0.2"], "203.0.113.7"),
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&["203.0.113.7:4711"], "203.0.113.7"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["6.6.6.6, unknown"], "127.0.0.1"),
            (&["6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),
            (&["6.6.6.6,"], "127.0.0.1"),
            (&["nonsense"], "127.0.0.1"),
        ] {
            assert_eq!(client(&proxies, forwarded_for).unwrap(), found, "{forwarded_for:?}");
        }
    }

    #[test]
    fn the_nearest_proxy_says_how_the_client_came() {
        let proxies = proxies(&["127.0.0.1"]);
        let headers = [
            ("x-forwarded-proto", "http, https"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-host", "app.example:8443"),
            ("forwarded", "for=6.6.6.6;proto=http;host=other.example"),
        ];
        let seen = told(&proxies, Some("127.0.0.1"), &headers).unwrap();
        assert_eq!(seen.is_encrypted, Some(true));
        assert_eq!(seen.host.unwrap(), "app.example:8443");
        assert_eq!(told(&proxies, Some("127.0.0.2"), &headers), None);
        for (proto, is_encrypted) in
            [("HTTPS", Some(true)), ("wss", Some(true)), ("http", Some(false)), ("ftp", None)]
        {
            let seen = told(&proxies, Some("127.0.0.1"), &[("x-forwarded-proto", proto)]).unwrap();
            assert_eq!(seen.is_encrypted, is_encrypted, "{proto}");
        }
        let head = http::Request::builder().header("x-forwarded-host", "a/b").body(()).unwrap();
        let peer = Some(SocketAddr::from(([127, 0, 0, 1], 1)));
        assert_eq!(proxies.read(&head.into_parts().0, peer), Err(BadHost));
    }

    #[test]
    fn the_header_of_the_rfc_is_read_if_it_is_asked_for() {
        let mut proxies = proxies(&["127.0.0.1", "10.0.0.0/8"]);
        proxies.headers = ProxyHeaders::Forwarded;
        let headers = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil.example"),
            ("forwarded", r#"for=6.6.6.6;proto=http;host=evil.example"#),
            (
                "forwarded",
                r#"For="[2001:db8::7]:4711" ; Proto=HTTPS;host="app.example:8443", for=10.0.0.2;proto=http"#,
            ),
        ];
        let seen = told(&proxies, Some("127.0.0.1"), &headers).unwrap();
        assert_eq!(seen.client, Some("2001:db8::7".parse().unwrap()));
        assert_eq!(seen.is_encrypted, Some(true));
        assert_eq!(seen.host.unwrap(), "app.example:8443");
        let all_ours = [("forwarded", "for=10.0.0.3;proto=https, for=10.0.0.2;proto=http")];
        let seen = told(&proxies, Some("127.0.0.1"), &all_ours).unwrap();
        assert_eq!(seen.client, Some([10, 0, 0, 3].into()));
        assert_eq!(seen.is_encrypted, Some(true));
        let nothing = told(&proxies, Some("127.0.0.1"), &[]).unwrap();
        assert_eq!(nothing.client, Some([127, 0, 0, 1].into()));
    }
}
