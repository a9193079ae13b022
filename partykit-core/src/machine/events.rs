use std::{fmt, sync::Arc, time::Duration};

use futures_channel::oneshot;
use futures_core::future::BoxFuture;

use crate::{
    Batch, Close, Connection, ErrorId, Handler, HandlerError, Message, Refusal, Request, Response,
    RoomAddress, TaskResult, runtime::host::Outgoing, user::calls::Chain, value::alarm::AlarmOrder,
    value::error::Failure,
};

/// Numbers the turns of a room. A turn is one run of one handler.
pub(crate) type TurnId = u64;

/// Where the answer to a request goes.
pub(crate) type Reply = oneshot::Sender<Result<Response, Refusal>>;

/// Something that happens to a room and that one of its handlers is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// The room's alarm may be due.
    Alarm {
        reply: Reply,
    },
    Close {
        connection: Connection,
        close: Close,
    },
    Connect {
        connection: Connection,
        request: Box<Request>,
        arrived: Duration,
    },
    Error(HandlerError),
    Message {
        sender: Connection,
        message: Message,
    },
    /// An operator wants something done with the alarm.
    Order {
        order: AlarmOrder,
        reply: Reply,
    },
    /// A request; without a reply it is a tell.
    Request {
        request: Box<Request>,
        chain: Chain,
        reply: Option<Reply>,
    },
    Task(TaskResult),
}

impl Event {
    /// What one takes of the queue that it waits in, which may be twice as large as what is in it.
    const PLACE: usize = 2 * size_of::<Self>();

    /// The bytes that it keeps in memory while it waits: its place in the queue, and what it holds.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Message { message, .. } => Self::size_of_message(message),
            Self::Connect { request, .. } | Self::Request { request, .. } => {
                Self::PLACE + size_of_request(request)
            }
            _ => Self::PLACE,
        }
    }

    /// The [size](Event::size) of an event with this message.
    pub(crate) fn size_of_message(message: &Message) -> usize {
        /// What an allocation, and a count of those who share it, take besides.
        const ALLOCATION: usize = 48;

        Self::PLACE + ALLOCATION + message.len()
    }

    pub(crate) fn wake_cause(&self) -> WakeCause {
        match self {
            Self::Alarm { .. } | Self::Order { .. } => WakeCause::Alarm,
            Self::Close { .. } => WakeCause::Disconnect,
            Self::Connect { .. } => WakeCause::Connect,
            Self::Error(_) => WakeCause::Error,
            Self::Message { .. } => WakeCause::Message,
            Self::Request { .. } => WakeCause::Request,
            Self::Task(_) => WakeCause::Task,
        }
    }
}

/// The kind of event that made an instance necessary.
///
/// ```
/// use partykit_core::WakeCause;
///
/// assert_eq!(WakeCause::Message.to_string(), "message");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WakeCause {
    /// The room's alarm is due.
    Alarm,
    /// Somebody connects.
    Connect,
    /// A connection has ended.
    Disconnect,
    /// A handler failed and took the instance; `on_error` gets a new one.
    Error,
    /// A connection said something.
    Message,
    /// An HTTP request, or a call or tell from another room.
    Request,
    /// A task ended after a failure had taken the instance.
    Task,
}

impl fmt::Display for WakeCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alarm => "alarm",
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
            Self::Error => "error",
            Self::Message => "message",
            Self::Request => "request",
            Self::Task => "task",
        })
    }
}

/// Why `on_start` runs. Computed, not stored.
///
/// ```
/// use partykit_core::{Result, Room, Server, StartReason};
///
/// struct Game;
///
/// impl Server for Game {
///     async fn on_start(&mut self, room: &Room) -> Result {
///         if room.start_reason() == StartReason::Restart {
///             // The players of before are gone without an on_close: forget them.
///             room.storage().delete("players")?;
///         }
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "sockets survived or not; storage is empty or not")]
pub enum StartReason {
    /// No connection and nothing in storage: the room is new.
    First,
    /// No connection, but something in storage: the room was here before.
    Restart,
    /// Connections are here: the room slept, or a failure took its instance.
    Wake,
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

/// What the driver has to run.
#[derive(Debug)]
pub(crate) enum Job {
    Alarm,
    Close { connection: Connection, close: Close },
    Connect { connection: Connection, request: Box<Request>, arrived: Duration },
    Error(HandlerError),
    Message { sender: Connection, message: Message },
    Order(AlarmOrder),
    Request { request: Box<Request> },
    Start,
    Task(TaskResult),
}

impl Job {
    /// The handler that it runs.
    pub(crate) fn handler(&self) -> Handler {
        match self {
            Self::Alarm | Self::Order(_) => Handler::OnAlarm,
            Self::Close { .. } => Handler::OnClose,
            Self::Connect { .. } => Handler::OnConnect,
            Self::Error(_) => Handler::OnError,
            Self::Message { .. } => Handler::OnMessage,
            Self::Request { .. } => Handler::OnRequest,
            Self::Start => Handler::OnStart,
            Self::Task(_) => Handler::OnTask,
        }
    }
}

/// What a handler that succeeded gives back.
#[derive(Debug)]
pub(crate) enum Answer {
    Done,
    /// The room need not start for what it was woken for.
    NotNow,
    Response(Response),
}

/// A handler, a claim or a commit that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) id: ErrorId,
}

/// Something that leaves the room, through the gate.
pub(crate) enum Effect {
    Accept(Connection),
    Close(Connection, Close),
    Frame {
        to: Targets,
        frame: Arc<Outgoing>,
    },
    /// A Close that the runtime wants, whatever becomes of the room's writes.
    HangUp(Connection, Close),
    Respond(Reply, Result<Response, Refusal>),
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
    Many { all: Arc<[Connection]>, except: Vec<Connection> },
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
    /// What an effect takes beside what it carries: its place in the queues of the room.
    const PLACE: usize = 128;

    /// The bytes that it keeps in memory while it waits in the room, its place included.
    pub(crate) fn cost(&self) -> usize {
        self.size() + Self::PLACE
    }

    /// The bytes that it carries.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Frame { frame, .. } => frame.message().len(),
            Self::Respond(_, Ok(response)) => response.body().bytes().map_or(0, bytes::Bytes::len),
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

/// What the machine wants done. The driver does it in this order.
#[derive(Debug)]
pub(crate) enum Output {
    /// Tell the socket that what its connection has attached has changed.
    Attach(Connection),
    /// Drop the handler's future, then report its turn as failed with this.
    Cancel(CancelReason),
    CancelTasks(Vec<u64>),
    /// Claim the room, then report it.
    Claim,
    /// Commit the batch, then report it.
    Commit(Arc<Batch>),
    /// Drop this outside of all locks: it holds users' values.
    Discard(Discard),
    DropInstance,
    Effect(Effect),
    Flush,
    /// Tell a connecting socket that it may not come in.
    Refuse(Connection, Close),
    Run(Job),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CancelReason {
    CommitFailed(ErrorId),
    /// What the handler said would take so many bytes of memory, and may take so many.
    SaidTooMuch {
        bytes: usize,
        limit: usize,
    },
    Timeout(Duration),
}

/// Values of users' code that the machine is done with.
#[derive(Debug)]
#[allow(dead_code, reason = "held to be dropped elsewhere, never read")]
pub(crate) enum Discard {
    Effect(Effect),
    Event(Event),
    Failed(Failed),
    Response(Response),
}

/// Which handler an event belongs to.
pub(crate) fn handler_of(event: &Event) -> Handler {
    match event {
        Event::Alarm { .. } | Event::Order { .. } => Handler::OnAlarm,
        Event::Close { .. } => Handler::OnClose,
        Event::Connect { .. } => Handler::OnConnect,
        Event::Error(_) => Handler::OnError,
        Event::Message { .. } => Handler::OnMessage,
        Event::Request { .. } => Handler::OnRequest,
        Event::Task(_) => Handler::OnTask,
    }
}
