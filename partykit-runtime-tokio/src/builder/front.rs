//! Options about pages, host names and proxies.

use std::time::Duration;

use super::Builder;
use crate::ProxyHeaders;

impl Builder {
    /// Lets pages of these origins talk to rooms: they may open WebSockets and read the answers to requests
    /// (CORS). Two kinds of clients may always do so: pages of the server's own host, and clients that send
    /// no `Origin` (no browser). All other pages get 403 when they connect, and the log names them.
    ///
    /// In a debug build, pages of `localhost` and of loopback addresses also may, with any port, if they ask
    /// for this server by such a name. In a release build they have to be listed.
    ///
    /// | origin | which pages |
    /// |---|---|
    /// | `https://example.com`, `http://localhost:5173` | those of this scheme, host and port |
    /// | `https://*.example.com` | those of all hosts whose names end in `.example.com`; not of `example.com` itself |
    /// | `null` | **any** page without an origin of its own: sandboxed frames of any site, files, some web views |
    /// | `file://` | files, in old web views (Cordova on Android) |
    ///
    /// List `null` or `file://` only if your rooms do not rely on cookies: let `on_before_connect` check a
    /// token that the page sends in its query. A Cordova page gets an origin of its own, such as
    /// `https://localhost`, with the preferences `scheme` and `hostname` (Android) or `scheme` (iOS) in its
    /// `config.xml`; list that origin. A sandboxed frame gets its own with `allow-same-origin`.
    ///
    /// If a request certainly came over TLS (the server's own, or that of a [trusted
    /// proxy](Builder::trusted_proxies)), a page of `http://` does not count as the server's own: an attacker
    /// in the network could have written that page.
    ///
    /// # Panics
    ///
    /// When one of them is not a valid origin.
    #[track_caller]
    pub fn allow_origins<O: AsRef<str>>(mut self, origins: impl IntoIterator<Item = O>) -> Self {
        for origin in origins {
            if let Err(error) = self.routes.allow(None, origin.as_ref()) {
                panic!("{error}");
            }
        }
        self
    }

    /// The same for the rooms of one party, which then has this list in the place of the common one. An empty
    /// list lets in the pages of the host that is asked, and no others.
    ///
    /// ```
    /// use partykit_core::Server;
    /// use partykit_runtime_tokio::Runtime;
    ///
    /// #[derive(Default)]
    /// struct Chat;
    /// impl Server for Chat {}
    ///
    /// let builder = Runtime::builder()
    ///     .party::<Chat>("chat")
    ///     .party::<Chat>("support")
    ///     .allow_origins(["https://example.com"])
    ///     .party_allow_origins("support", ["https://desk.example.com"]);
    /// # let _ = builder;
    /// ```
    ///
    /// # Panics
    ///
    /// When one of them is not such an origin. [`build`](Builder::build) panics if there is no such party.
    #[track_caller]
    pub fn party_allow_origins<O: AsRef<str>>(
        mut self,
        party: impl AsRef<str>,
        origins: impl IntoIterator<Item = O>,
    ) -> Self {
        self.routes.own_origins(party.as_ref());
        for origin in origins {
            if let Err(error) = self.routes.allow(Some(party.as_ref()), origin.as_ref()) {
                panic!("{error}");
            }
        }
        self
    }

    /// Lets every page talk to the rooms of one party: see [`allow_any_origin`](Builder::allow_any_origin).
    ///
    /// # Panics
    ///
    /// [`build`](Builder::build) panics if there is no such party.
    pub fn party_allow_any_origin(mut self, party: impl AsRef<str>) -> Self {
        self.routes.allow_any(Some(party.as_ref()));
        self
    }

    /// Whether a page of `localhost` may talk to a server that is asked as `localhost`, on any ports.
    /// Addresses of this machine (`127.0.0.1`, `[::1]`) count as well. So a page of a development server may
    /// talk to rooms. Default: `true` in debug builds (`cfg!(debug_assertions)`), `false` in others.
    pub fn allow_localhost(mut self, allowed: bool) -> Self {
        self.routes.allow_localhost(allowed);
        self
    }

    /// Lets every page talk to rooms, with the cookies that its visitors have here. Only for parties that do
    /// not authenticate by cookies.
    pub fn allow_any_origin(mut self) -> Self {
        self.routes.allow_any(None);
        self
    }

    /// The host names of this server, as they are in a browser's address line: `app.example`,
    /// `app.example:8080`, `*.rooms.example`. Default: no names; the server answers for every host.
    ///
    /// * Pages of these hosts are the server's own, no matter which `Host` a proxy sends. A name without a
    ///   port means the ports 80 (`http`) and 443 (`https`).
    /// * A request for another host gets 421, and the log names the host. So a page cannot reach a server in
    ///   its visitor's network with a name that points there (DNS rebinding). The port does not matter for
    ///   this. Addresses (`127.0.0.1:1999`) and `localhost` are always accepted.
    ///
    /// ```
    /// use partykit_runtime_tokio::Runtime;
    ///
    /// let builder = Runtime::builder().hosts(["app.example", "www.app.example"]);
    /// # let _ = builder;
    /// ```
    ///
    /// # Panics
    ///
    /// When one of them is not a valid host.
    #[track_caller]
    pub fn hosts<H: AsRef<str>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        for host in hosts {
            if let Err(error) = self.routes.add_host(host.as_ref()) {
                panic!("{error}");
            }
        }
        self
    }

    /// The reverse proxies whose headers are trusted: addresses (`127.0.0.1`), networks (`10.0.0.0/8`,
    /// `fd00::/8`), and `unix:` for all connections over a Unix socket. Default: no proxies; such headers are
    /// ignored.
    ///
    /// These headers of their requests are read:
    ///
    /// | header | what it decides |
    /// |---|---|
    /// | `X-Forwarded-For` | where the client is: [`ClientAddress`](crate::ClientAddress), and limits by address. Read from its end: the first address that is not a trusted proxy's |
    /// | `X-Forwarded-Proto` | whether the client has spoken TLS: the scheme of the request's address, and whose pages are the server's own |
    /// | `X-Forwarded-Host` | whom the client has asked for: the host of the request's address, and whose pages are the server's own |
    ///
    /// [`Builder::proxy_headers`] chooses `Forwarded` instead. A proxy that is listed here must set
    /// `X-Forwarded-For` or append to it. If it only passes the header on, its clients can send any address.
    ///
    /// # Panics
    ///
    /// When one of them is neither an address, nor a network, nor `unix:`.
    #[track_caller]
    pub fn trusted_proxies<P: AsRef<str>>(mut self, proxies: impl IntoIterator<Item = P>) -> Self {
        for proxy in proxies {
            if let Err(error) = self.proxies.trust(proxy.as_ref()) {
                panic!("{error}");
            }
        }
        self
    }

    /// Which headers of [trusted proxies](Builder::trusted_proxies) are read. Default:
    /// [`ProxyHeaders::XForwarded`].
    pub fn proxy_headers(mut self, headers: ProxyHeaders) -> Self {
        self.proxies.headers = headers;
        self
    }

    /// A [shutdown](crate::Handle::shutdown) closes the sockets over this time, so that not all clients come
    /// back at the same moment. Default: 5 s.
    pub fn shutdown_spread(mut self, spread: Duration) -> Self {
        self.shutdown.spread = spread;
        self
    }

    /// How long running handlers may take to end after a [shutdown](crate::Handle::shutdown) has begun. Then
    /// they are cancelled and rolled back. Default: 5 s.
    ///
    /// A shutdown takes at most the longer one of this time and [`Builder::shutdown_spread`], plus 4.5 s. By
    /// default this is less than the 10 s after which Docker kills a container.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.shutdown.grace = grace;
        self
    }
}
