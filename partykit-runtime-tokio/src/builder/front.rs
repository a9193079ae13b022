//! Who may talk to the runtime, and who stands in front of it: pages, hosts, proxies.

use std::time::Duration;

use super::Builder;
use crate::ProxyHeaders;

impl Builder {
    /// Lets pages of these origins talk to rooms: they may open WebSockets, and read the answers to
    /// requests (CORS). Pages of the host that is asked always may, and so may clients that send no
    /// `Origin`, as anything but a browser does. All other pages get 403 when they connect, and the log
    /// names them.
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
    /// A server that is asked over TLS for certain, its own or a [trusted
    /// proxy's](Builder::trusted_proxies), does not count a page of `http://` among its own: anybody on
    /// the network could have written that page.
    ///
    /// # Panics
    ///
    /// When one of them is not such an origin.
    #[track_caller]
    pub fn allow_origins<O: AsRef<str>>(mut self, origins: impl IntoIterator<Item = O>) -> Self {
        for origin in origins {
            if let Err(error) = self.routes.origins.allow(origin.as_ref()) {
                panic!("{error}");
            }
        }
        self
    }

    /// Lets every page talk to rooms, with the cookies that its visitors have here. For parties that
    /// authenticate by other means, or not at all.
    pub fn allow_any_origin(mut self) -> Self {
        self.routes.origins.allow_any();
        self
    }

    /// The names of this server, as browsers have them in their address line: `app.example`,
    /// `app.example:8080`, `*.rooms.example`. Default: none, and the server answers for every host.
    ///
    /// * Pages of these hosts are its own, whatever `Host` a proxy in front of it sends on. A name
    ///   without a port means the ports 80 (`http`) and 443 (`https`).
    /// * A request for another host gets 421, and the log names it. So a page cannot reach a server in
    ///   its visitor's network by making its own name point there (DNS rebinding). Ports do not count
    ///   for this, and addresses (`127.0.0.1:1999`) and `localhost` are always answered for.
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
    /// When one of them is not a host.
    #[track_caller]
    pub fn hosts<H: AsRef<str>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        for host in hosts {
            if let Err(error) = self.routes.origins.add_host(host.as_ref()) {
                panic!("{error}");
            }
        }
        self
    }

    /// Reverse proxies whose headers are believed: addresses (`127.0.0.1`), networks (`10.0.0.0/8`,
    /// `fd00::/8`), and `unix:` for everybody who connects over a Unix socket. Default: none, and the
    /// headers of everybody are ignored.
    ///
    /// From a request of one of them is taken
    ///
    /// | header | what it decides |
    /// |---|---|
    /// | `X-Forwarded-For` | where the client is: [`ClientAddress`](crate::ClientAddress), and limits by address. Read from its end: the first address that is not a trusted proxy's |
    /// | `X-Forwarded-Proto` | whether the client has spoken TLS: the scheme of the request's address, and whose pages are the server's own |
    /// | `X-Forwarded-Host` | whom the client has asked for: the host of the request's address, and whose pages are the server's own |
    ///
    /// or the same from `Forwarded`, see [`Builder::proxy_headers`]. A proxy that is listed here has to
    /// set `X-Forwarded-For` or to append to it: what it only passes on, its clients can make up.
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

    /// Over how much time a [shutdown](crate::Handle::shutdown) closes the sockets, so that not all
    /// clients come back at once. Default: 5 s.
    pub fn shutdown_spread(mut self, spread: Duration) -> Self {
        self.shutdown.spread = spread;
        self
    }

    /// How long handlers that run when a [shutdown](crate::Handle::shutdown) begins may take to end; then
    /// they are cancelled, and what they did is rolled back. Default: 5 s.
    ///
    /// With 4.5 s for what follows, a shutdown takes at most the longer of this and
    /// [`Builder::shutdown_spread`] plus 4.5 s: by default less than the 10 s after which Docker kills a
    /// container.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.shutdown.grace = grace;
        self
    }
}
