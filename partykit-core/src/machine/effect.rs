use std::{fmt, sync::Arc};

use futures_core::future::BoxFuture;

use super::{
    answer::{Answer, Reply},
    output::Output,
};
use crate::{Close, Connection, Refusal, Request, RoomAddress, connection::outgoing::Outgoing};

/// Something that leaves the room, through the gate.
pub(crate) enum Effect {
    Accept(Connection),
    Close(Connection, Close),
    Frame {
        to: Targets,
        frame: Arc<Outgoing>,
    },
    /// A Close that the runtime wants, even if the room's writes fail.
    HangUp(Connection, Close),
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
    One(Connection),
    Many {
        all: Arc<[Connection]>,
        except: Vec<Connection>,
        /// No other frame has the same list.
        is_own: bool,
    },
}

impl Targets {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.reached().iter().filter(|connection| self.includes(connection))
    }

    /// Whether a connection that it reaches is a receiver.
    pub(crate) fn includes(&self, connection: &Connection) -> bool {
        match self {
            Self::One(_) => true,
            Self::Many { except, .. } => !except.contains(connection),
        }
    }

    /// The receivers, and those that are excepted.
    pub(crate) fn reached(&self) -> &[Connection] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many { all, .. } => all,
        }
    }

    /// The bytes of its lists, as far as they are its own.
    fn size(&self) -> usize {
        let connections = match self {
            Self::One(_) => 0,
            Self::Many { all, except, is_own } => {
                except.capacity() + if *is_own { all.len() } else { 0 }
            }
        };
        connections * size_of::<Connection>()
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
    const PLACE: usize = 256;

    /// The bytes that it keeps in memory while it waits in the room, its place included.
    pub(crate) fn cost(&self) -> usize {
        self.size() + Self::PLACE
    }

    /// The bytes that it carries.
    pub(crate) fn size(&self) -> usize {
        match self {
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
            Self::Close(connection, close) => write!(f, "Close({:?}, {close})", connection.id()),
            Self::Frame { to, frame } => {
                write!(f, "Frame({} to {})", frame.message().len(), to.iter().count())
            }
            Self::HangUp(connection, close) => write!(f, "HangUp({:?}, {close})", connection.id()),
            Self::Respond(..) => f.write_str("Respond"),
            Self::Spawn { id, .. } => write!(f, "Spawn({id})"),
            Self::Tell { to, .. } => write!(f, "Tell({to})"),
        }
    }
}

const _: () = assert!(2 * size_of::<Output>() + size_of::<Outgoing>() + 32 <= Effect::PLACE);
