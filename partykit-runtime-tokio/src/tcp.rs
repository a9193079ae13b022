//! Plain TCP that Tokio does not watch until it has to.
//!
//! Most connections become WebSockets with the first bytes that they send, and those bytes are mostly there when the
//! connection is accepted. Then a loop of the `Reactor` watches the socket, and Tokio never needs to know of it.

use std::{
    any::Any,
    future::poll_fn,
    io::{self, IoSlice, Read},
    mem,
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd},
    net::TcpListener,
};
use tracing::debug;

use crate::{Listener, listen::tune};

/// Accepts connections that Tokio does not watch.
pub(crate) struct Door(AsyncFd<OwnedFd>);

impl Door {
    /// Takes a listener of TCP over. Returns other listeners as they are.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub(crate) fn of<L: Listener>(listener: L) -> Result<Self, L> {
        match (&listener as &dyn Any).downcast_ref().map(Self::new) {
            Some(Ok(door)) => Ok(door),
            Some(Err(error)) => {
                debug!("Tokio watches each connection from its beginning: {error}");
                Err(listener)
            }
            None => Err(listener),
        }
    }

    fn new(listener: &TcpListener) -> io::Result<Self> {
        let listener = listener.as_fd().try_clone_to_owned()?;
        // Linux gives these options to all connections that are accepted.
        tune(&SockRef::from(&listener));
        #[allow(deprecated, reason = "its successor is unsafe code; a descriptor keeps itself")]
        let listener = AsyncFd::with_interest(listener, Interest::READABLE)?;
        Ok(Self(listener))
    }

    fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpStream, Option<SocketAddr>)>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            if let Ok(accepted) = ready.try_io(|listener| accept(listener.get_ref())) {
                return Poll::Ready(accepted);
            }
        }
    }
}

impl Listener for Door {
    type Io = Tcp;

    async fn accept(&mut self) -> io::Result<(Tcp, Option<SocketAddr>)> {
        let (stream, peer) = poll_fn(|cx| self.poll_accept(cx)).await?;
        Ok((Tcp::new(stream), peer))
    }

    fn reset(io: &Tcp) {
        let reset = io.descriptor().map(|io| SockRef::from(&io).set_linger(Some(Duration::ZERO)));
        if let Some(Err(error)) = reset {
            debug!("a connection cannot be reset: {error}");
        }
    }

    fn listening(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    fn descriptor(io: &Tcp) -> Option<BorrowedFd<'_>> {
        io.descriptor()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn accept(listener: &OwnedFd) -> io::Result<(TcpStream, Option<SocketAddr>)> {
    use rustix::net::{SocketFlags, acceptfrom_with};

    let (stream, peer) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    Ok((stream.into(), peer.and_then(|peer| SocketAddr::try_from(peer).ok())))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn accept(listener: &OwnedFd) -> io::Result<(TcpStream, Option<SocketAddr>)> {
    let (stream, peer) = SockRef::from(listener).accept()?;
    stream.set_nonblocking(true)?;
    tune(&SockRef::from(&stream));
    Ok((stream.into(), peer.as_socket()))
}

/// Writing to a stream that the client has closed is an error, and no signal. Apple's systems have an option of the
/// socket for that, which is set.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: i32 = rustix::net::SendFlags::NOSIGNAL.bits().cast_signed();
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: i32 = 0;

/// A TCP stream. Tokio watches it from the first read or write on that would have to wait.
pub(crate) struct Tcp(State);

enum State {
    Unwatched(TcpStream),
    Watched(tokio::net::TcpStream),
    /// Tokio could not watch it.
    Lost,
}

impl Tcp {
    /// The stream must not block.
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(State::Unwatched(stream))
    }

    /// The descriptor. `None` if the stream is lost.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            State::Unwatched(stream) => Some(stream.as_fd()),
            State::Watched(stream) => Some(stream.as_fd()),
            State::Lost => None,
        }
    }

    /// The stream itself, which Tokio does not watch any more.
    ///
    /// # Errors
    ///
    /// When Tokio cannot give it up.
    pub(crate) fn into_std(self) -> io::Result<TcpStream> {
        match self.0 {
            State::Unwatched(stream) => Ok(stream),
            State::Watched(stream) => stream.into_std(),
            State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Reads at once. `None` if that is not possible, or not known to be.
    fn read(&self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        let State::Unwatched(stream) = &self.0 else { return None };
        at_once(|| (&mut &*stream).read(buffer))
    }

    /// Writes at once. `None` if that is not possible.
    ///
    /// Does not wait for Tokio to say that the stream takes something: of a stream that it has begun to watch just
    /// now, it does not know that yet.
    fn write(&self, slices: &[IoSlice<'_>]) -> Option<io::Result<usize>> {
        let stream = self.descriptor()?;
        let stream = SockRef::from(&stream);
        at_once(|| match slices {
            // The system has less to do for one.
            [slice] => stream.send_with_flags(slice, NO_SIGNAL),
            slices => stream.send_vectored_with_flags(slices, NO_SIGNAL),
        })
    }

    /// Has Tokio watch it.
    fn watched(&mut self) -> io::Result<Pin<&mut tokio::net::TcpStream>> {
        if let State::Unwatched(_) = self.0
            && let State::Unwatched(stream) = mem::replace(&mut self.0, State::Lost)
        {
            self.0 = State::Watched(tokio::net::TcpStream::from_std(stream)?);
        }
        match &mut self.0 {
            State::Watched(stream) => Ok(Pin::new(stream)),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// `None` if it would have to wait.
fn at_once<T>(mut act: impl FnMut() -> io::Result<T>) -> Option<io::Result<T>> {
    loop {
        match act() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            done => return Some(done),
        }
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.read(buffer.initialize_unfilled()) {
            Some(read) => Poll::Ready(read.map(|length| buffer.advance(length))),
            None => self.watched()?.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.write(&[IoSlice::new(bytes)]) {
            Some(written) => Poll::Ready(written),
            None => self.watched()?.poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.write(slices) {
            Some(written) => Poll::Ready(written),
            None => self.watched()?.poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = match &self.0 {
            State::Unwatched(stream) => stream.shutdown(Shutdown::Write),
            State::Watched(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            State::Lost => Ok(()),
        };
        Poll::Ready(shut)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A door, and a client that has connected to it.
    async fn pair() -> (Door, Tcp, net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let Ok(mut door) = Door::of(listener) else { panic!("it is TCP") };
        let client = net::TcpStream::connect(address).unwrap();
        let (stream, peer) = door.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().ok());
        (door, stream, client)
    }

    fn is_watched(stream: &Tcp) -> bool {
        matches!(stream.0, State::Watched(_))
    }

    #[tokio::test]
    async fn connections_have_all_options_when_they_are_accepted() {
        let (_door, stream, _client) = pair().await;
        let mut stream = stream.into_std().unwrap();
        assert!(stream.nodelay().unwrap());
        assert!(stream.read(&mut [0]).is_err(), "it does not block");
        assert!(rustix::io::fcntl_getfd(&stream).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        #[cfg(any(target_os = "linux", target_os = "android"))]
        assert_eq!(SockRef::from(&stream).tcp_notsent_lowat().unwrap(), crate::listen::UNSENT);
    }

    #[tokio::test]
    async fn a_stream_is_watched_from_when_it_has_to_wait() {
        let (_door, mut stream, mut client) = pair().await;
        client.write_all(b"head").unwrap();
        let mut bytes = [0; 4];
        // Over loopback it is there at once.
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(b"101").await.unwrap();
        stream.flush().await.unwrap();
        assert!(!is_watched(&stream) && bytes == *b"head");

        let later = tokio::spawn(async move {
            let read = stream.read_exact(&mut bytes).await.map(|_| bytes);
            (stream, read)
        });
        tokio::task::yield_now().await;
        client.write_all(b"more").unwrap();
        let (mut stream, read) = later.await.unwrap();
        assert!(is_watched(&stream) && read.unwrap() == *b"more");
        client.read_exact(&mut bytes[..3]).unwrap();
        assert_eq!(bytes[..3], *b"101");

        stream.shutdown().await.unwrap();
        assert_eq!(client.read(&mut bytes).unwrap(), 0);
        client.write_all(b"last").unwrap();
        (&stream.into_std().unwrap()).read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, *b"last");
    }

    /// Before Tokio has looked at it for the first time.
    #[tokio::test]
    async fn a_stream_can_be_written_from_when_it_is_watched() {
        let (_door, mut stream, mut client) = pair().await;
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let read = Pin::new(&mut stream).poll_read(&mut cx, &mut ReadBuf::new(&mut [0; 4]));
        assert!(read.is_pending() && is_watched(&stream));
        let written = Pin::new(&mut stream).poll_write(&mut cx, b"503");
        assert!(matches!(written, Poll::Ready(Ok(3))), "{written:?}");
        let mut bytes = [0; 3];
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, *b"503");
    }

    #[tokio::test]
    async fn a_client_that_takes_no_more_is_waited_for() {
        const SENT: usize = 16 << 20;
        let (_door, mut stream, mut client) = pair().await;
        let writing = tokio::spawn(async move {
            stream.write_all(&vec![7; SENT]).await.unwrap();
            stream
        });
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; SENT];
            client.read_exact(&mut bytes).unwrap();
            bytes.iter().all(|byte| *byte == 7)
        });
        assert!(is_watched(&writing.await.unwrap()) && read.await.unwrap());
    }

    #[tokio::test]
    async fn a_reset_reaches_the_client() {
        let (_door, mut stream, mut client) = pair().await;
        stream.write_all(b"bytes").await.unwrap();
        Door::reset(&stream);
        drop(stream);
        let read = client.read_to_end(&mut Vec::new());
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
