use std::{
    fmt,
    future::Future,
    io,
    marker::PhantomData,
    net::{IpAddr, SocketAddr},
};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs},
};
use tracing::debug;

use crate::{
    ServeError,
    admitted::Admitted,
    socket::{Carrier, Io, Never, Resets},
};

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
///             // No further connection will come.
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
    /// When no connection could be accepted. The runtime tries again: at once if the error is about one
    /// connection, such as [`ConnectionAborted`](io::ErrorKind::ConnectionAborted); otherwise, for example
    /// without free descriptors, after half a second.
    fn accept(&mut self)
    -> impl Future<Output = io::Result<(Self::Io, Option<SocketAddr>)>> + Send;

    /// Has a connection end at once when it is dropped, with a reset of TCP: nothing is left to the
    /// operating system to be sent later. Called for clients that are given up because they take
    /// nothing of what they are sent; without it, what they did not take stays in memory for minutes.
    /// Does nothing unless implemented.
    fn reset(io: &Self::Io) {
        let _ = io;
    }

    /// Whether the way to the client is encrypted, as with TLS: the addresses of requests then begin with
    /// `https`.
    fn is_encrypted(&self) -> bool {
        false
    }

    /// Where it listens, for the log.
    fn address(&self) -> Option<String> {
        None
    }
}

/// How many bytes of a connection the operating system may hold that are not on their way to the
/// client. Without such a limit it takes up to 4 MB from us for a client that takes nothing, and for a
/// slow one it does not tell for minutes that the client has taken anything.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
const UNSENT: u32 = 128 << 10;

/// How many connections may wait to be accepted, of which the kernel takes `net.core.somaxconn` at most.
/// The standard library asks for 128: of the clients that come back at once after a restart, the rest
/// would have to ask again.
const BACKLOG: u32 = 4096;

/// Listens on TCP, for [`Runtime::serve_on`](crate::Runtime::serve_on) or a `TlsListener`. As Tokio's
/// `TcpListener::bind`, but up to 4,096 connections may wait to be accepted, as far as the operating
/// system allows (`net.core.somaxconn`), so that a herd of clients gets in at once.
///
/// ```no_run
/// use partykit_core::{Result, Server};
/// use partykit_runtime_tokio::{Runtime, bind};
///
/// #[derive(Default)]
/// struct Chat;
/// impl Server for Chat {}
///
/// # async fn serve() -> Result {
/// let runtime = Runtime::builder().party::<Chat>("chat").build()?;
/// runtime.serve_on(bind("0.0.0.0:1999").await?).await;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`ServeError::Listen`], when none of the addresses that `addr` means can be used.
pub async fn bind(addr: impl ToSocketAddrs + fmt::Debug) -> Result<TcpListener, ServeError> {
    let address = format!("{addr:?}");
    let listening = async {
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
        for addr in tokio::net::lookup_host(addr).await? {
            match listen(addr) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    listening.await.map_err(|source| ServeError::Listen { address, source })
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A port whose last connections are still closing can be listened on again at once. On Windows it
    // would let two processes have it.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

impl Listener for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let (stream, peer) = Self::accept(self).await?;
        // Without it small frames would wait for the acknowledgement of those before.
        if let Err(error) = stream.set_nodelay(true) {
            debug!("TCP_NODELAY cannot be set: {error}");
        }
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        if let Err(error) = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT) {
            debug!("TCP_NOTSENT_LOWAT cannot be set: {error}");
        }
        Ok((stream, Some(peer)))
    }

    fn reset(io: &TcpStream) {
        if let Err(error) = io.set_zero_linger() {
            debug!("a connection cannot be reset: {error}");
        }
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
pub(crate) struct Ingress {
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
pub(crate) fn release<L: Listener>(upgraded: Upgraded) -> (Box<dyn Io>, Bytes) {
    match upgraded.downcast::<TokioIo<Admitted<L::Io>>>() {
        Ok(parts) => {
            let io = parts.io.into_inner().leave_alone();
            (Box::new(Carrier::<_, By<L>>::new(io)), parts.read_buf)
        }
        Err(upgraded) => release_wrapped(upgraded),
    }
}

/// The listener resets its connections.
struct By<L>(PhantomData<L>);

impl<L: Listener> Resets<Admitted<L::Io>> for By<L> {
    fn reset(io: &Admitted<L::Io>) {
        L::reset(io.io());
    }

    fn address(io: &Admitted<L::Io>) -> Option<IpAddr> {
        io.address()
    }
}

/// A connection of an unknown kind.
pub(crate) fn release_wrapped(upgraded: Upgraded) -> (Box<dyn Io>, Bytes) {
    (Box::new(Carrier::<_, Never>::new(TokioIo::new(upgraded))), Bytes::new())
}
