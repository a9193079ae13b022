mod stream;

use std::{fmt, io, net::SocketAddr, sync::Arc};

use rustls::ServerConfig;
use tracing::warn;

pub use self::stream::TlsStream;

use crate::Listener;

/// Speaks TLS on the connections of another listener.
///
/// The handshake runs in the connection's own task, so a slow client delays only itself. It has to end within
/// the 10 s that a client has for its first request. Connections end with a `close_notify`.
///
/// ```no_run
/// use std::sync::Arc;
/// use partykit_core::{BoxError, Result, Server};
/// use partykit_runtime_tokio::{Runtime, TlsListener, rustls};
/// use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
///
/// #[derive(Default)]
/// struct Chat;
/// impl Server for Chat {}
///
/// # async fn serve() -> Result {
/// let chain: Vec<_> =
///     CertificateDer::pem_file_iter("chain.pem")?.collect::<Result<_, rustls::pki_types::pem::Error>>()?;
/// let key = PrivateKeyDer::from_pem_file("key.pem")?;
/// let config =
///     rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
///
/// let runtime = Runtime::builder().party::<Chat>("chat").in_memory().build()?;
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:443").await?;
/// runtime.serve_on(TlsListener::new(listener, config)).await;
/// # Ok(())
/// # }
/// ```
pub struct TlsListener<L> {
    listener: L,
    config: Arc<ServerConfig>,
}

impl<L: Listener> TlsListener<L> {
    /// Speaks TLS with this configuration.
    ///
    /// The runtime speaks only HTTP/1.1. If the ALPN protocols of `config` offer more, for example `h2`, they
    /// are replaced, and the log says so at level `warn`: a client that chose `h2` would not understand the
    /// answer.
    ///
    /// **To change certificates without a restart**, build `config` with a
    /// [`ResolvesServerCert`](crate::rustls::server::ResolvesServerCert). Rustls asks it at each handshake,
    /// with the name that the client asked for (SNI). Open connections keep their certificate. The guide's
    /// page "Within other servers, TLS, other listeners" has an example.
    pub fn new(listener: L, config: impl Into<Arc<ServerConfig>>) -> Self {
        Self { listener, config: http1_only(config.into()) }
    }
}

/// Removes ALPN protocols that this server does not speak.
fn http1_only(mut config: Arc<ServerConfig>) -> Arc<ServerConfig> {
    let offers_others = config.alpn_protocols.iter().any(|protocol| {
        // HTTP/1.0 works too. `acme-tls/1` is for ACME's challenges and needs no HTTP.
        ![&b"http/1.1"[..], b"http/1.0", b"acme-tls/1"].contains(&&**protocol)
    });
    let lacks_ours =
        !config.alpn_protocols.is_empty() && !config.alpn_protocols.contains(&HTTP_1.to_vec());
    if offers_others || lacks_ours {
        let offered: Vec<_> =
            config.alpn_protocols.iter().map(|it| String::from_utf8_lossy(it)).collect();
        warn!(
            ?offered,
            "the ALPN protocols of the TLS configuration are replaced by \"http/1.1\", the only one \
             that this server speaks: leave alpn_protocols empty, or set it to [b\"http/1.1\"]"
        );
        Arc::make_mut(&mut config).alpn_protocols = vec![HTTP_1.to_vec()];
    }
    config
}

/// The name of HTTP/1.1 in ALPN.
const HTTP_1: &[u8] = b"http/1.1";

impl<L: Listener> Listener for TlsListener<L> {
    type Io = TlsStream<L::Io>;

    async fn accept(&mut self) -> io::Result<(Self::Io, Option<SocketAddr>)> {
        let (io, peer) = self.listener.accept().await?;
        Ok((TlsStream::new(io, self.config.clone()), peer))
    }

    #[cfg(unix)]
    fn listening(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.listener.listening()
    }

    fn reset(io: &Self::Io) {
        L::reset(io.get_ref());
    }

    fn is_encrypted(&self) -> bool {
        true
    }

    fn address(&self) -> Option<String> {
        let address = self.listener.address()?;
        Some(address.strip_prefix("http:").map_or(address.clone(), |rest| format!("https:{rest}")))
    }
}

impl<L> fmt::Debug for TlsListener<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsListener").finish_non_exhaustive()
    }
}
