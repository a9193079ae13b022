use std::{
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::limits::Place;

/// How long a client may read nothing of an answer. This is twice as long as for a WebSocket, because one
/// answer waits and does not grow.
pub(crate) const STALL: Duration = Duration::from_secs(30);

const WHOLE: &str = "the stream is there";

/// A client's stream. It holds the client's place among the clients of the process.
pub(crate) struct Admitted<I> {
    /// `None` only while it is taken apart.
    io: Option<I>,
    /// Makes the stream end with a reset.
    reset: fn(&I),
    place: Arc<Place>,
    /// How long the client may read nothing. `None` if there is no limit.
    patience: Option<Duration>,
    stall: Option<Pin<Box<Sleep>>>,
}

impl<I> Admitted<I> {
    pub(crate) fn new(io: I, place: Arc<Place>) -> Self {
        Self { io: Some(io), reset: |_| (), place, patience: Some(STALL), stall: None }
    }

    /// Sets how to reset a stream whose client is [given up](Place::give_up).
    pub(crate) fn resets(self, reset: fn(&I)) -> Self {
        let mut this = self;
        this.reset = reset;
        this
    }

    /// The stream.
    pub(crate) fn io(&self) -> &I {
        self.io.as_ref().expect(WHOLE)
    }

    fn io_mut(&mut self) -> Pin<&mut I>
    where
        I: Unpin,
    {
        Pin::new(self.io.as_mut().expect(WHOLE))
    }

    /// The stream, and the client's place.
    pub(crate) fn into_parts(mut self) -> (I, Arc<Place>) {
        (self.io.take().expect(WHOLE), self.place.clone())
    }

    /// The client's address. `None` if it is not known.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.place.address()
    }

    /// Stops watching the time: the stream became a WebSocket, which has time limits of its own.
    pub(crate) fn leave_alone(mut self) -> Self {
        (self.patience, self.stall) = (None, None);
        self
    }

    /// Fails when the client has read nothing for too long.
    fn look_after<T>(
        &mut self,
        cx: &mut Context<'_>,
        attempt: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(patience) = self.patience else { return attempt };
        if attempt.is_ready() {
            self.stall = None;
            return attempt;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(patience)));
        match stall.as_mut().poll(cx) {
            Poll::Ready(()) => {
                self.place.give_up();
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<I> Drop for Admitted<I> {
    fn drop(&mut self) {
        if let Some(io) = &self.io
            && self.place.is_given_up()
        {
            (self.reset)(io);
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Admitted<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.place.poll_called_back(cx).is_ready() {
            let why = "its place was lent, and a client at another address needs it";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)));
        }
        self.io_mut().poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Admitted<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let attempt = self.io_mut().poll_write(cx, bytes);
        self.look_after(cx, attempt)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let attempt = self.io_mut().poll_write_vectored(cx, slices);
        self.look_after(cx, attempt)
    }

    fn is_write_vectored(&self) -> bool {
        self.io().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let attempt = self.io_mut().poll_flush(cx);
        self.look_after(cx, attempt)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let attempt = self.io_mut().poll_shutdown(cx);
        self.look_after(cx, attempt)
    }
}
