use std::{
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::{IpAddr, Shutdown, TcpStream},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use mio::{Interest, Registry, Token, unix::SourceFd};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;

use super::{Io, task::News};
use crate::limits::{Packed, Place};

/// A plain TCP socket, watched by a loop of the [`Reactor`](super::Reactor). It is `Pending` where the
/// operating system would block, and wakes nothing: the loop polls its task when the socket is ready again.
pub(crate) struct Plain {
    stream: TcpStream,
    place: Option<Arc<Place>>,
    /// Where the client counts, if it shares its place with others that are settled.
    settled: Option<Packed>,
    /// There may be something to read.
    readable: bool,
    /// The client has hung up. So behind what it has sent there is its end, of which the loop hears only once.
    hung_up: bool,
    /// The last read filled the buffer. Other sockets come before the next one.
    filled: bool,
}

impl Plain {
    /// The stream must not block.
    pub(super) fn new(stream: TcpStream, place: Option<Arc<Place>>) -> Self {
        let (place, settled) = match place.as_ref().and_then(|place| place.settle()) {
            Some((shared, address)) => (Some(shared), Some(address)),
            None => (place, None),
        };
        Self { stream, place, settled, readable: false, hung_up: false, filled: false }
    }

    /// Has a loop's set of sockets watch it.
    ///
    /// # Errors
    ///
    /// When the operating system cannot watch it.
    pub(super) fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&self.stream.as_raw_fd()), token, interest)
    }

    /// Notes what a loop has heard.
    pub(super) fn hear(&mut self, news: News) {
        self.readable |= news.readable;
        self.hung_up |= news.hung_up;
    }

    /// Whether it is known that there is nothing to read. Then its loop polls it when there is.
    pub(super) fn is_quiet(&self, cx: &mut Context<'_>) -> bool {
        !self.readable && !self.filled && !self.is_called_back(cx)
    }

    /// Whether a client at another address needs its place.
    fn is_called_back(&self, cx: &mut Context<'_>) -> bool {
        self.place.as_ref().is_some_and(|place| place.poll_called_back(cx).is_ready())
    }
}

impl Plain {
    /// Ends the watching.
    pub(super) fn unwatch(&mut self, registry: &Registry) {
        if let Err(error) = registry.deregister(&mut SourceFd(&self.stream.as_raw_fd())) {
            debug!("a socket is still watched: {error}");
        }
    }
}

impl Io for Plain {
    fn reset(&mut self) {
        if let Err(error) = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)) {
            debug!("a connection cannot be reset: {error}");
        }
    }

    fn address(&self) -> Option<IpAddr> {
        match self.settled {
            Some(address) => address.address(),
            None => self.place.as_ref()?.address(),
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.stream.as_fd())
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        if let (Some(place), Some(address)) = (&self.place, self.settled) {
            place.leave(address);
        }
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_called_back(cx) {
            let why = "its place was lent, and a client at another address needs it";
            return Poll::Ready(Err(io::Error::new(ErrorKind::ConnectionAborted, why)));
        }
        if self.filled {
            self.filled = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !self.readable {
            return Poll::Pending;
        }
        let space = buffer.remaining();
        let read = retry(|| (&self.stream).read(buffer.initialize_unfilled()));
        if let Poll::Ready(Ok(length)) = &read {
            buffer.advance(*length);
            self.filled = *length == space;
        }
        // The loop hears of everything that comes after a read that left space.
        self.readable = self.filled || self.hung_up;
        read.map_ok(drop)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        retry(|| (&self.stream).write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        retry(|| (&self.stream).write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(Shutdown::Write))
    }
}

/// Pending where the call would block.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> Poll<io::Result<T>> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return Poll::Ready(done),
        }
    }
}
