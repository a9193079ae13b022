//! What happens to a room.

use std::time::Duration;

use super::{answer::Reply, handler_error::HandlerError, wake_cause::WakeCause};
use crate::{
    Close, Connection, Handler, Message, Request, TaskResult,
    value::{chain::Chain, order::Order},
};

/// Something that happens to a room and that one of its handlers is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// The room's alarm may be due.
    Alarm {
        /// Until its handler runs.
        reply: Option<Reply>,
    },
    Close {
        connection: Connection,
        close: Close,
    },
    Connect {
        connection: Connection,
        request: Box<Request>,
        arrived: Duration,
        /// Its [size](Event::size), which is asked for several times.
        size: usize,
    },
    Error(HandlerError),
    Message {
        sender: Connection,
        message: Message,
    },
    /// An operator wants something done with the alarm.
    Order {
        order: Order,
        reply: Option<Reply>,
    },
    /// A request; one that came without a reply is a tell.
    Request {
        request: Box<Request>,
        chain: Chain,
        reply: Option<Reply>,
    },
    Task {
        id: u64,
        result: TaskResult,
    },
}

impl Event {
    /// What one takes of the queue that it waits in, which may be twice as large as what is in it.
    const PLACE: usize = 2 * size_of::<Self>();

    /// A client wants to connect.
    pub(crate) fn connect(
        connection: Connection,
        request: Box<Request>,
        arrived: Duration,
    ) -> Self {
        let size = Self::PLACE + size_of_request(&request);
        Self::Connect { connection, request, arrived, size }
    }

    /// The bytes that it keeps in memory while it waits: its place in the queue, and what it holds.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Message { message, .. } => Self::size_of_message(message),
            Self::Connect { size, .. } => *size,
            Self::Request { request, .. } => Self::PLACE + size_of_request(request),
            _ => Self::PLACE,
        }
    }

    /// The [size](Event::size) of an event with this message.
    #[inline]
    pub(crate) fn size_of_message(message: &Message) -> usize {
        /// What an allocation, and a count of those who share it, take besides.
        const ALLOCATION: usize = 48;

        Self::PLACE + ALLOCATION + message.len()
    }

    /// The handler that it belongs to.
    pub(crate) fn handler(&self) -> Handler {
        match self {
            Self::Alarm { .. } | Self::Order { .. } => Handler::OnAlarm,
            Self::Close { .. } => Handler::OnClose,
            Self::Connect { .. } => Handler::OnConnect,
            Self::Error(_) => Handler::OnError,
            Self::Message { .. } => Handler::OnMessage,
            Self::Request { .. } => Handler::OnRequest,
            Self::Task { .. } => Handler::OnTask,
        }
    }

    /// Whose event it is.
    pub(crate) fn connection(&self) -> Option<&Connection> {
        match self {
            Self::Close { connection, .. }
            | Self::Connect { connection, .. }
            | Self::Message { sender: connection, .. } => Some(connection),
            _ => None,
        }
    }

    /// Where its answer goes, once.
    pub(crate) fn take_reply(&mut self) -> Option<Reply> {
        match self {
            Self::Alarm { reply } | Self::Order { reply, .. } | Self::Request { reply, .. } => {
                reply.take()
            }
            _ => None,
        }
    }

    /// The kind of event that wakes a room for it.
    pub(crate) fn wake_cause(&self) -> WakeCause {
        match self {
            Self::Alarm { .. } | Self::Order { .. } => WakeCause::Alarm,
            Self::Close { .. } => WakeCause::Disconnect,
            Self::Connect { .. } => WakeCause::Connect,
            Self::Error(_) => WakeCause::Error,
            Self::Message { .. } => WakeCause::Message,
            Self::Request { .. } => WakeCause::Request,
            Self::Task { .. } => WakeCause::Task,
        }
    }
}

/// What a request takes in memory. The parts of its head are slices of what was read, and keep more than
/// themselves: twice as much is a bound, as buffers grow by doubling.
fn size_of_request(request: &Request) -> usize {
    /// A header in the map of headers, which is at most half empty.
    const HEADER: usize = 2 * (size_of::<http::HeaderName>() + size_of::<http::HeaderValue>() + 32);

    let headers = request.headers();
    let text: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let uri = request.uri().path().len() + request.uri().query().map_or(0, str::len);
    let body = request.body().bytes().map_or(0, bytes::Bytes::len);
    size_of::<Request>() + 2 * (text + uri) + headers.len() * HEADER + body
}
