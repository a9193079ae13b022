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
    unread: Unread,
    /// The client has hung up. So behind what it has sent there is its end, of which the loop hears only once.
    hung_up: bool,
    watched: Watched,
}

/// What is there to read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unread {
    Nothing,
    /// There may be something.
    Some,
    /// The last read filled the buffer. Other sockets come before the next one.
    More,
}

/// What a loop hears of a socket.
///
/// Nearly all sockets take at once what is written, and one that is watched for space wakes its loop for nothing when
/// the watching begins. So it is watched for space only after it was full for the first time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watched {
    Nothing,
    /// The same, and it is full.
    NothingYet,
    /// That there is something to read.
    Reads,
    /// The same, and it is full: the loop would not hear when it takes more.
    Stuck,
    /// Everything.
    All,
}

impl Plain {
    /// The stream must not block.
    pub(super) fn new(stream: TcpStream, place: Option<Arc<Place>>) -> Self {
        let (place, settled) = match place.as_ref().and_then(|place| place.settle()) {
            Some((shared, address)) => (Some(shared), Some(address)),
            None => (place, None),
        };
        let (unread, watched) = (Unread::Nothing, Watched::Nothing);
        Self { stream, place, settled, unread, hung_up: false, watched }
    }

    /// Has a loop's set of sockets watch it.
    ///
    /// # Errors
    ///
    /// When the operating system cannot watch it.
    pub(super) fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let (watched, interest) = match self.watched {
            Watched::NothingYet => (Watched::All, Interest::READABLE | Interest::WRITABLE),
            _ => (Watched::Reads, Interest::READABLE),
        };
        registry.register(&mut SourceFd(&self.stream.as_raw_fd()), token, interest)?;
        self.watched = watched;
        Ok(())
    }

    /// Whether it takes no more, and its loop would not hear when it does.
    pub(super) fn is_stuck(&self) -> bool {
        self.watched == Watched::Stuck
    }

    /// Has its loop hear when it takes more, which it may do already.
    ///
    /// # Errors
    ///
    /// When the operating system cannot watch it.
    pub(super) fn watch_writes(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.reregister(&mut SourceFd(&self.stream.as_raw_fd()), token, interest)?;
        self.watched = Watched::All;
        Ok(())
    }

    /// Notes what a loop has heard.
    pub(super) fn hear(&mut self, news: News) {
        if news.readable && self.unread == Unread::Nothing {
            self.unread = Unread::Some;
        }
        self.hung_up |= news.hung_up;
    }

    /// Whether it is known that there is nothing to read. Then its loop polls it when there is.
    pub(super) fn is_quiet(&self, cx: &mut Context<'_>) -> bool {
        self.unread == Unread::Nothing && !self.is_called_back(cx)
    }

    /// Notes how a write has ended.
    fn note<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_pending() {
            self.watched = match self.watched {
                Watched::Nothing => Watched::NothingYet,
                Watched::Reads => Watched::Stuck,
                watched => watched,
            };
        }
        written
    }

    /// Whether a client at another address needs its place.
    fn is_called_back(&self, cx: &mut Context<'_>) -> bool {
        self.place.as_ref().is_some_and(|place| place.poll_called_back(cx).is_ready())
    }
}

impl Plain {
    /// Ends the watching.
    pub(super) fn unwatch(&mut self, registry: &Registry) {
        self.watched = Watched::Nothing;
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
        match self.unread {
            Unread::Nothing => return Poll::Pending,
            Unread::Some => {}
            Unread::More => {
                self.unread = Unread::Some;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        let space = buffer.remaining();
        let read = retry(|| (&self.stream).read(buffer.initialize_unfilled()));
        // The loop hears of everything that comes after a read that left space.
        self.unread = if self.hung_up { Unread::Some } else { Unread::Nothing };
        if let Poll::Ready(Ok(length)) = &read {
            buffer.advance(*length);
            if *length == space {
                self.unread = Unread::More;
            }
        }
        read.map_ok(drop)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = retry(|| (&self.stream).write(bytes));
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = retry(|| (&self.stream).write_vectored(slices));
        self.note(written)
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
