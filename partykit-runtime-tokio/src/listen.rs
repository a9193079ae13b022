use std::{future::Future, io, net::SocketAddr};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tracing::debug;

use crate::{admission::Admitted, socket::Io};

/// Where connections come from: TCP, Unix sockets, TLS over either (`TlsListener`, with the feature
/// `tls`), or anything else that carries bytes both ways.
///
/// ```
/// use std::{io, net::SocketAddr};
/// use partykit_runtime_tokio::Listener;
/// use tokio::{io::DuplexStream, sync::mpsc};
///
/// /// Connections within this process.
/// struct Within(mpsc::Receiver<DuplexStream>);
///
/// impl Listener for Within {
///     type Io = DuplexStream;
///
///     async fn accept(&mut self) -> io::Result<(DuplexStream, Option<SocketAddr>)> {
///         match self.0.recv().await {
///             Some(stream) => Ok((stream, None)),
///             // Nobody will ever connect again.
///             None => std::future::pending().await,
///         }
///     }
/// }
/// ```
pub trait Listener: Send + 'static {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Waits for the next connection, and says from where it comes if that has an address. No
    /// connection may be lost when the future is dropped.
    ///
    /// Slow work, a handshake for instance, does not belong here but in the first read of the
    /// connection: it would hold up the next one.
    ///
    /// # Errors
    ///
    /// When there is none. The runtime tries again: at once when the error is about one connection, such
    /// as [`ConnectionAborted`](io::ErrorKind::ConnectionAborted); else, as when there are no
    /// descriptors left, after half a second.
    fn accept(&mut self)
    -> impl Future<Output = io::Result<(Self::Io, Option<SocketAddr>)>> + Send;

    /// Whether nobody between here and the client reads along, as with TLS: the addresses of requests
    /// begin with `https`.
    fn is_encrypted(&self) -> bool {
        false
    }

    /// Where it listens, for the log.
    fn address(&self) -> Option<String> {
        None
    }
}

impl Listener for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let (stream, peer) = Self::accept(self).await?;
        // Without it small frames would wait for the acknowledgement of those before.
        if let Err(error) = stream.set_nodelay(true) {
            debug!("TCP_NODELAY cannot be set: {error}");
        }
        Ok((stream, Some(peer)))
    }

    fn address(&self) -> Option<String> {
        self.local_addr().ok().map(|address| format!("http://{address}"))
    }
}

#[cfg(unix)]
impl Listener for tokio::net::UnixListener {
    type Io = tokio::net::UnixStream;

    async fn accept(&mut self) -> io::Result<(Self::Io, Option<SocketAddr>)> {
        let (stream, _) = Self::accept(self).await?;
        Ok((stream, None))
    }

    fn address(&self) -> Option<String> {
        let address = self.local_addr().ok()?;
        address.as_pathname().map(|path| path.display().to_string())
    }
}

/// How a connection came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// From where.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) is_encrypted: bool,
    /// Whether what requests carry in their extensions was put there by this program.
    pub(crate) keeps_extensions: bool,
    /// Gives back the connection that has become something else than HTTP, and what was read from it
    /// already.
    pub(crate) release: fn(Upgraded) -> (Box<dyn Io>, Bytes),
}

/// The connection itself, without what HTTP had wrapped it in: that costs memory.
pub(crate) fn release<I>(upgraded: Upgraded) -> (Box<dyn Io>, Bytes)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match upgraded.downcast::<TokioIo<Admitted<I>>>() {
        Ok(parts) => (Box::new(parts.io.into_inner().leave_alone()), parts.read_buf),
        Err(upgraded) => release_wrapped(upgraded),
    }
}

/// A connection of an unknown kind.
pub(crate) fn release_wrapped(upgraded: Upgraded) -> (Box<dyn Io>, Bytes) {
    (Box::new(TokioIo::new(upgraded)), Bytes::new())
}
