use std::{fmt, future::Future, io, net::SocketAddr};
#[cfg(unix)]
use std::{
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs},
};
use tracing::debug;

use crate::ServeError;
#[cfg(unix)]
use crate::given;

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

    /// Waits for the next connection. Returns it with the peer's address, if it has one. Dropping the future
    /// must not lose a connection.
    ///
    /// Do slow work, such as a TLS handshake, in the first read of the connection and not here: it would
    /// delay the next connection.
    ///
    /// # Errors
    ///
    /// When no connection could be accepted. The runtime tries again: at once if the error is about one
    /// connection, such as [`ConnectionAborted`](io::ErrorKind::ConnectionAborted); otherwise, for example
    /// without free descriptors, after half a second.
    fn accept(&mut self)
    -> impl Future<Output = io::Result<(Self::Io, Option<SocketAddr>)>> + Send;

    /// The descriptor of the listener, if it is all of it. Then a [hand-over](crate::Handle::hand_over) gives
    /// it to the next process, and no client is refused. Default: `None`.
    #[cfg(unix)]
    fn listening(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Makes a connection end with a TCP reset when it is dropped, so that the operating system keeps nothing
    /// to send later. Called for clients that are given up because they read nothing. Without it, the unread
    /// bytes stay in memory for minutes. Default: does nothing.
    fn reset(io: &Self::Io) {
        let _ = io;
    }

    /// The descriptor of a connection, if the descriptor is all of it. Then a
    /// [hand-over](crate::Handle::hand_over) can give it to the next process. Default: `None`, so the clients
    /// of these connections have to connect again.
    #[cfg(unix)]
    fn descriptor(io: &Self::Io) -> Option<BorrowedFd<'_>> {
        let _ = io;
        None
    }

    /// Whether the connection to the client is encrypted, as with TLS. The URLs of requests then begin with
    /// `https`.
    fn is_encrypted(&self) -> bool {
        false
    }

    /// The address that it listens on, for the log.
    fn address(&self) -> Option<String> {
        None
    }
}

/// How many unsent bytes of a connection the operating system may hold. Without this limit it takes up to 4
/// MB for a client that reads nothing. For a slow client, it would then look for minutes as if it read
/// nothing.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) const UNSENT: u32 = 128 << 10;

/// Sets the options of TCP connections.
pub(crate) fn tune(socket: &socket2::SockRef<'_>) {
    // Otherwise a small frame would wait until the one before it is acknowledged.
    if let Err(error) = socket.set_tcp_nodelay(true) {
        debug!("TCP_NODELAY cannot be set: {error}");
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT) {
        debug!("TCP_NOTSENT_LOWAT cannot be set: {error}");
    }
}

/// How many connections may wait to be accepted. The kernel allows at most `net.core.somaxconn`. The standard
/// library asks for 128; when many clients come back after a restart, all further ones would have to try
/// again.
const BACKLOG: u32 = 4096;

/// Listens on TCP, for [`Runtime::serve_on`](crate::Runtime::serve_on) or a `TlsListener`. It is like Tokio's
/// `TcpListener::bind`, but up to 4,096 connections may wait to be accepted, if the operating system allows
/// it (`net.core.somaxconn`). So thousands of clients can come back at the same moment.
///
/// If systemd, or the [process before](crate::Handle::hand_over), has given the process a socket with this port,
/// it is taken, even if its IP address is another one.
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
/// [`ServeError::Listen`] when no address of `addr` can be used.
pub async fn bind(addr: impl ToSocketAddrs + fmt::Debug) -> Result<TcpListener, ServeError> {
    let address = format!("{addr:?}");
    let listening = async {
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
        for addr in tokio::net::lookup_host(addr).await? {
            #[cfg(unix)]
            if let Some(listener) = given::tcp(addr)? {
                return Ok(listener);
            }
            match listen(addr) {
                Ok(listener) => {
                    #[cfg(unix)]
                    given::warn_of_others(&addr);
                    return Ok(listener);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    listening.await.map_err(|source| ServeError::Listen { address, source })
}

/// Listens on a Unix socket, for [`Runtime::serve_on`](crate::Runtime::serve_on). Takes the place of a file that
/// a process has left which is gone.
///
/// Like [`bind`], it takes the socket of the [process before](crate::Handle::hand_over) or of systemd, if they
/// have given one with this path.
///
/// ```no_run
/// use partykit_core::{Result, Server};
/// use partykit_runtime_tokio::{Runtime, bind_unix};
///
/// #[derive(Default)]
/// struct Chat;
/// impl Server for Chat {}
///
/// # async fn serve() -> Result {
/// let runtime = Runtime::builder().party::<Chat>("chat").build()?;
/// runtime.serve_on(bind_unix("chat.sock")?).await;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`ServeError::Listen`] when another process listens there, or the file cannot be made.
///
/// # Panics
///
/// Outside of a Tokio runtime.
#[cfg(unix)]
pub fn bind_unix(path: impl AsRef<Path>) -> Result<UnixListener, ServeError> {
    let path = path.as_ref();
    let listening = || {
        if let Some(listener) = given::unix(path)? {
            return Ok(listener);
        }
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left(path) => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            bound => bound,
        }?;
        given::warn_of_others(&path.display());
        Ok(listener)
    };
    let address = path.display().to_string();
    listening().map_err(|source| ServeError::Listen { address, source })
}

/// Whether this is a Unix socket of a process that is gone. Nothing listens on a plain file either.
#[cfg(unix)]
fn is_left(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    let connected = std::os::unix::net::UnixStream::connect(path);
    is_socket && connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A port can be used again at once, while its last connections are closing. Not on Windows, where this
    // option would let two processes use the port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

impl Listener for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let (stream, peer) = Self::accept(self).await?;
        tune(&socket2::SockRef::from(&stream));
        Ok((stream, Some(peer)))
    }

    fn reset(io: &TcpStream) {
        if let Err(error) = io.set_zero_linger() {
            debug!("a connection cannot be reset: {error}");
        }
    }

    #[cfg(unix)]
    fn listening(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }

    #[cfg(unix)]
    fn descriptor(io: &TcpStream) -> Option<BorrowedFd<'_>> {
        Some(io.as_fd())
    }

    fn address(&self) -> Option<String> {
        self.local_addr().ok().map(|address| format!("http://{address}"))
    }
}

#[cfg(unix)]
impl Listener for UnixListener {
    type Io = tokio::net::UnixStream;

    async fn accept(&mut self) -> io::Result<(Self::Io, Option<SocketAddr>)> {
        let (stream, _) = Self::accept(self).await?;
        Ok((stream, None))
    }

    fn listening(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }

    fn descriptor(io: &Self::Io) -> Option<BorrowedFd<'_>> {
        Some(io.as_fd())
    }

    fn address(&self) -> Option<String> {
        let address = self.local_addr().ok()?;
        address.as_pathname().map(|path| path.display().to_string())
    }
}
