//! Sockets on their way out of this process, and into the next one.

use std::{
    net::{IpAddr, TcpStream},
    os::fd::BorrowedFd,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use partykit_core::{
    Close,
    runtime::{CloseReason, ConnectionKey, RoomCell},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Io, Link, LinkSettings,
    carriage::Carriage,
    open::{open, open_again},
    plain::Plain,
    task::Start,
};
use crate::{codec::Decoder, ingress::Transport, limits::Place, shutdown::Alive};

/// What the task of a socket says of its way out of this process.
pub(crate) enum Out {
    /// It reads nothing more.
    Paused,
    /// Its connection has ended, so it stays and ends by itself.
    Stays,
    /// The task has ended, and this is what it had.
    Left(Left),
}

/// Where the tasks of a party's sockets say it.
#[derive(Default)]
pub(crate) struct Exit(Mutex<Option<UnboundedSender<Out>>>);

impl Exit {
    /// Sets who hears it.
    pub(crate) fn set(&self, to: Option<UnboundedSender<Out>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }

    pub(super) fn say(&self, out: Out) {
        if let Some(to) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // If the receiver is gone, the hand-over was given up and asks for nothing any more.
            let _ = to.send(out);
        }
    }
}

/// A socket that nothing runs.
pub(crate) struct Left(pub(super) Arc<Link>);

/// A socket that comes from another process, or back.
pub(crate) struct Arrived {
    from: From,
    link: Arc<Link>,
    start: Start,
}

/// Where a socket comes from.
enum From {
    Process(Transport),
    /// From another process if it is plain TCP, and back in any case.
    Back(Carriage),
}

/// A socket as data, without its descriptor. All of it has to come back as it was, in the same order: not one
/// byte may be lost or doubled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SocketState {
    /// The Close of the server that waits for the client or was sent.
    pub(crate) closing: Option<(u16, String)>,
    /// A message that has begun: whether it is text, its bytes so far, and its number of fragments.
    pub(crate) half: Option<(bool, Vec<u8>, u32)>,
    /// What was read from the client and not given to the room.
    pub(crate) unread: Vec<u8>,
    /// What waits for the client, and how many bytes of it are written. Begins with a frame.
    pub(crate) unsent: Vec<u8>,
    pub(crate) written: usize,
    /// Where the client's place counts.
    pub(crate) address: Option<IpAddr>,
    /// Where its messages count.
    pub(crate) talker: Option<IpAddr>,
}

impl SocketState {
    /// About how many bytes it has.
    pub(crate) fn size(&self) -> usize {
        let half = self.half.as_ref().map_or(0, |(_, bytes, _)| bytes.len());
        size_of::<Self>() + half + self.unread.len() + self.unsent.len()
    }
}

impl Arrived {
    /// A socket of another process.
    ///
    /// # Errors
    ///
    /// When its unfinished message breaks a limit of this process.
    pub(crate) fn new(
        io: Transport,
        state: &SocketState,
        settings: &Arc<LinkSettings>,
    ) -> Result<Self, CloseReason> {
        Self::make(From::Process(io), state, settings)
    }

    /// One of plain TCP that does not block, for a loop of the [`Reactor`](super::Reactor).
    ///
    /// # Errors
    ///
    /// As [`Arrived::new`].
    pub(crate) fn plain(
        stream: TcpStream,
        place: Arc<Place>,
        state: &SocketState,
        settings: &Arc<LinkSettings>,
    ) -> Result<Self, CloseReason> {
        let carriage = Plain::new(stream, Some(place)).into();
        Self::make(From::Back(carriage), state, settings)
    }

    fn make(
        from: From,
        state: &SocketState,
        settings: &Arc<LinkSettings>,
    ) -> Result<Self, CloseReason> {
        let decoder = match &state.half {
            Some((is_text, bytes, fragments)) => {
                Decoder::resume((*is_text, bytes, *fragments), &settings.limits)?
            }
            None => Decoder::default(),
        };
        let link = Link::accepted(settings);
        if let Some(talker) = state.talker {
            link.set_address(talker);
        }
        let closing = state.closing.as_ref().map(|(code, reason)| {
            // Each Close of the server may be sent, except one without a code.
            Close::new(*code, reason.as_str()).unwrap_or_else(|_| Close::no_status())
        });
        link.resume_writing(closing, Bytes::copy_from_slice(&state.unsent), state.written);
        let unread = Bytes::copy_from_slice(&state.unread);
        Ok(Self { from, link, start: Start { decoder, unread } })
    }

    /// The room's end of the socket.
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Runs it as a connection of this room.
    pub(crate) fn run(self, room: Arc<RoomCell>, connection: ConnectionKey, alive: Alive) {
        let Self { from, link, start } = self;
        match from {
            From::Process(io) => open(io, start, link, room, connection, alive),
            From::Back(carriage) => open_again(carriage, start, link, room, connection, alive),
        }
    }
}

impl Left {
    /// The room's end of the socket.
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.0
    }

    /// The same as if it came from another process. `None` if the connection has ended.
    pub(crate) fn come_back(self, settings: &Arc<LinkSettings>) -> Option<Arrived> {
        let state = self.state()?;
        let (carriage, _) = self.0.give_up_carriage();
        Arrived::make(From::Back(carriage), &state, settings).ok()
    }

    /// The socket as data. `None` if the connection has ended, or is about to.
    pub(crate) fn state(&self) -> Option<SocketState> {
        self.0.to_hand_over()
    }

    /// Uses the descriptor, if another process can go on with it.
    pub(crate) fn with_descriptor<R>(&self, act: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        self.0.with_descriptor(act)
    }

    /// Takes the connection itself, and the bytes that wait for the client.
    pub(crate) fn give_up(self) -> Option<(Box<dyn Io>, Vec<u8>)> {
        let (carriage, unsent) = self.0.give_up_carriage();
        Some((carriage.into_io()?, unsent))
    }
}
