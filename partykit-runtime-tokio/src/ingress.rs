//! How a connection comes from its listener to HTTP, and from HTTP to a WebSocket.

#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::{
    marker::PhantomData,
    net::{IpAddr, SocketAddr},
};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
#[cfg(unix)]
use {
    crate::tcp::{Door, Tcp},
    std::any::Any,
};

use crate::{
    Listener,
    admitted::Admitted,
    rewind::Rewind,
    socket::{Carrier, Io, Never, Resets},
};

/// How a connection came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ingress {
    /// The peer's address.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) is_encrypted: bool,
    /// Whether the extensions of requests come from this program, and are kept.
    pub(crate) keeps_extensions: bool,
    /// Takes the connection out of HTTP after an upgrade, with the bytes that were already read from it.
    pub(crate) release: fn(Upgraded) -> (Transport, Bytes),
}

/// What carries a WebSocket: the connection itself, without the wrappers of HTTP, which need memory.
pub(crate) enum Transport {
    /// Plain TCP, which a loop of the reactor can run.
    #[cfg(unix)]
    Tcp(Admitted<Tcp>),
    Other(Box<dyn Io>),
}

impl Transport {
    /// The connection as one that needs a task.
    pub(crate) fn into_io(self) -> Box<dyn Io> {
        match self {
            #[cfg(unix)]
            Self::Tcp(io) => Box::new(Carrier::<_, By<Door>>::new(io)),
            Self::Other(io) => io,
        }
    }
}

/// The connection as a WebSocket has it, after its handshake was answered.
pub(crate) fn carry<L: Listener>(io: Admitted<L::Io>) -> Transport {
    let io = io.leave_alone();
    #[cfg(unix)]
    let io = match as_tcp(io) {
        Ok(tcp) => return Transport::Tcp(tcp),
        Err(io) => io,
    };
    Transport::Other(Box::new(Carrier::<_, By<L>>::new(io)))
}

/// Returns other connections as they are.
#[cfg(unix)]
fn as_tcp<I: 'static>(io: Admitted<I>) -> Result<Admitted<Tcp>, Admitted<I>> {
    let mut io = Some(io);
    let tcp = (&mut io as &mut dyn Any).downcast_mut().and_then(Option::take);
    match (tcp, io) {
        (Some(tcp), _) => Ok(tcp),
        (None, Some(io)) => Err(io),
        (None, None) => unreachable!("what is not taken is still there"),
    }
}

/// The connection behind hyper.
pub(crate) fn release<L: Listener>(upgraded: Upgraded) -> (Transport, Bytes) {
    match upgraded.downcast::<TokioIo<Rewind<Admitted<L::Io>>>>() {
        Ok(parts) => {
            let (behind, io) = parts.io.into_inner().into_parts();
            let read = match behind.is_empty() {
                true => parts.read_buf,
                false => [parts.read_buf, behind].concat().into(),
            };
            (carry::<L>(io), read)
        }
        Err(upgraded) => release_wrapped(upgraded),
    }
}

/// A connection of an unknown kind.
pub(crate) fn release_wrapped(upgraded: Upgraded) -> (Transport, Bytes) {
    let io = Carrier::<_, Never>::new(TokioIo::new(upgraded));
    (Transport::Other(Box::new(io)), Bytes::new())
}

/// Resets connections as their listener does.
struct By<L>(PhantomData<L>);

impl<L: Listener> Resets<Admitted<L::Io>> for By<L> {
    fn reset(io: &Admitted<L::Io>) {
        L::reset(io.io());
    }

    fn address(io: &Admitted<L::Io>) -> Option<IpAddr> {
        io.address()
    }

    #[cfg(unix)]
    fn descriptor(io: &Admitted<L::Io>) -> Option<BorrowedFd<'_>> {
        L::descriptor(io.io())
    }
}
