use std::{
    fmt,
    future::Future,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{Accept, TlsAcceptor, rustls::ServerConfig};
use tracing::warn;

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
    acceptor: TlsAcceptor,
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
        Self { listener, acceptor: TlsAcceptor::from(http1_only(config.into())) }
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
        Ok((TlsStream(State::Handshake(Box::new(self.acceptor.accept(io)))), peer))
    }

    fn reset(io: &Self::Io) {
        match &io.0 {
            State::Handshake(handshake) => handshake.get_ref().into_iter().for_each(L::reset),
            State::Open(stream) => L::reset(stream.get_ref().0),
            State::Failed => {}
        }
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

/// How many encrypted bytes of a connection may wait for the client.
const UNSENT: usize = 16 << 10;

/// A connection of a [`TlsListener`]: the first read or write does the handshake.
///
/// ```
/// use partykit_runtime_tokio::{Listener, TlsListener, TlsStream};
/// use tokio::net::{TcpListener, TcpStream};
///
/// async fn next(mut listener: TlsListener<TcpListener>) -> std::io::Result<TlsStream<TcpStream>> {
///     let (stream, _peer) = listener.accept().await?;
///     Ok(stream)
/// }
/// ```
pub struct TlsStream<I>(State<I>);

enum State<I> {
    Handshake(Box<Accept<I>>),
    Open(Box<tokio_rustls::server::TlsStream<I>>),
    Failed,
}

impl<I: AsyncRead + AsyncWrite + Unpin> TlsStream<I> {
    /// Ready when the handshake is over.
    fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Pin<&mut tokio_rustls::server::TlsStream<I>>>> {
        if let State::Handshake(handshake) = &mut self.0 {
            let ended = ready!(Pin::new(&mut **handshake).poll(cx));
            // A finished handshake must not be polled again. Failed, until the stream is set below.
            self.0 = State::Failed;
            let mut stream = Box::new(ended?);
            // At most this many encrypted bytes wait for a client that reads nothing.
            stream.get_mut().1.set_buffer_limit(Some(UNSENT));
            self.0 = State::Open(stream);
        }
        match &mut self.0 {
            State::Open(stream) => Poll::Ready(Ok(Pin::new(stream))),
            _ => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_read(cx, buffer)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Open(stream) => Pin::new(stream).poll_flush(cx),
            // Nothing was written yet.
            State::Handshake(_) | State::Failed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Open(stream) => Pin::new(stream).poll_shutdown(cx),
            // Before the handshake there are no keys for a `close_notify`.
            State::Handshake(_) | State::Failed => Poll::Ready(Ok(())),
        }
    }
}

impl<I> fmt::Debug for TlsStream<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").finish_non_exhaustive()
    }
}
