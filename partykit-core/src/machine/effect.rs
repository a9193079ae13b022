use std::{fmt, sync::Arc};

use futures_core::future::BoxFuture;

use super::{
    answer::{Answer, Reply},
    output::Output,
};
use crate::{
    Close, Connection, Message, Refusal, Request, RoomAddress,
    connection::{outgoing::Shared, peer::Peer},
};

/// Something that leaves the room, through the gate.
pub(crate) enum Effect {
    Accept(Connection),
    /// A message to one connection.
    Answer(Peer, Message),
    Close(Peer, Box<Close>),
    /// A message to many.
    Frame {
        to: Targets,
        frame: Arc<Shared>,
    },
    /// A Close that the runtime wants, even if the room's writes fail.
    HangUp(Peer, Box<Close>),
    Respond(Reply, Result<Answer, Refusal>),
    Spawn {
        id: u64,
        task: BoxFuture<'static, ()>,
    },
    Tell {
        to: RoomAddress,
        request: Box<Request>,
    },
}

/// The receivers of a frame.
#[derive(Clone)]
pub(crate) enum Targets {
    One(Peer),
    Many {
        /// In connection order.
        all: Arc<[Peer]>,
        /// The keys of those that are left out.
        except: Vec<u64>,
        /// No other frame has the same list.
        is_own: bool,
    },
}

impl Targets {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.reached().iter().filter(|peer| self.includes(peer))
    }

    /// Whether a connection that it reaches is a receiver.
    pub(crate) fn includes(&self, peer: &Peer) -> bool {
        match self {
            Self::One(_) => true,
            Self::Many { except, .. } => !except.contains(&peer.key()),
        }
    }

    /// The receivers, and those that are excepted.
    pub(crate) fn reached(&self) -> &[Peer] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many { all, .. } => all,
        }
    }

    /// The bytes of its lists, as far as they are its own.
    fn size(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Many { all, except, is_own } => {
                let own = if *is_own { size_of_val(&**all) } else { 0 };
                own + except.capacity() * size_of::<u64>()
            }
        }
    }

    /// Whether both reach the same connections, exceptions aside.
    pub(crate) fn reaches_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::One(one), Self::One(other)) => one == other,
            (Self::Many { all, .. }, Self::Many { all: other, .. }) => Arc::ptr_eq(all, other),
            _ => false,
        }
    }
}

impl Effect {
    /// What an effect takes beside what it carries: its place in the queues of the room, which may be twice
    /// as large as what is in them, and the message's own.
    const PLACE: usize = 272;

    /// The bytes that it keeps in memory while it waits in the room, its place included.
    pub(crate) fn cost(&self) -> usize {
        self.size() + Self::PLACE
    }

    /// The bytes that it carries.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Answer(_, message) => message.len(),
            Self::Frame { to, frame } => to.size() + frame.message().len(),
            Self::Respond(_, Ok(Answer::Response(response))) => {
                response.body().bytes().map_or(0, bytes::Bytes::len)
            }
            Self::Tell { request, .. } => request.body().bytes().map_or(0, bytes::Bytes::len),
            _ => 0,
        }
    }
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept(connection) => write!(f, "Accept({:?})", connection.id()),
            Self::Close(peer, close) => write!(f, "Close({peer:?}, {close})"),
            Self::Answer(peer, message) => write!(f, "Answer({} to {peer:?})", message.len()),
            Self::Frame { to, frame } => {
                write!(f, "Frame({} to {})", frame.message().len(), to.iter().count())
            }
            Self::HangUp(peer, close) => write!(f, "HangUp({peer:?}, {close})"),
            Self::Respond(..) => f.write_str("Respond"),
            Self::Spawn { id, .. } => write!(f, "Spawn({id})"),
            Self::Tell { to, .. } => write!(f, "Tell({to})"),
        }
    }
}

const _: () = assert!(2 * size_of::<Output>() + size_of::<Shared>() + 32 <= Effect::PLACE);
