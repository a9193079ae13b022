#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::{
    io::{self, IoSlice},
    marker::PhantomData,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The transport of a connection.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    /// Makes the connection end at once when it is dropped, so that the operating system keeps nothing to
    /// send later. Does nothing for transports that cannot do this.
    fn reset(&mut self);

    /// The client's address. `None` if it is not known.
    fn address(&self) -> Option<IpAddr>;

    /// The connection itself, if another process can go on with it.
    #[cfg(unix)]
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// How a connection is reset.
pub(crate) trait Resets<T>: 'static {
    fn reset(io: &T);

    /// The client's address. `None` if it is not known.
    fn address(_: &T) -> Option<IpAddr> {
        None
    }

    /// The connection itself, if another process can go on with it.
    #[cfg(unix)]
    fn descriptor(_: &T) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// For transports that cannot be reset.
pub(crate) enum Never {}

impl<T> Resets<T> for Never {
    fn reset(_: &T) {}
}

/// A stream, and how it is reset.
pub(crate) struct Carrier<T, R>(T, PhantomData<fn() -> R>);

impl<T, R> Carrier<T, R> {
    pub(crate) fn new(io: T) -> Self {
        Self(io, PhantomData)
    }
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static, R: Resets<T>> Io for Carrier<T, R> {
    fn reset(&mut self) {
        R::reset(&self.0);
    }

    fn address(&self) -> Option<IpAddr> {
        R::address(&self.0)
    }

    #[cfg(unix)]
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        R::descriptor(&self.0)
    }
}

impl<T: AsyncRead + Unpin, R> AsyncRead for Carrier<T, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin, R> AsyncWrite for Carrier<T, R> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
