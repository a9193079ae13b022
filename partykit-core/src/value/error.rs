use std::{fmt, time::Duration};

use crate::{BoxError, Connection, Reject, RoomAddress, runtime::host::Host};

/// Names one failure in the log and towards the client, who learns nothing else about it.
///
/// Prints as 16 hexadecimal digits.
///
/// ```
/// use partykit_core::{ErrorId, HandlerError};
///
/// fn ticket(error: &HandlerError) -> String {
///     let id: ErrorId = error.id();
///     format!("please tell us this number: {id}")
/// }
/// # let _ = ticket;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorId(pub(crate) u64);

impl ErrorId {
    /// A fresh id. For runtimes, whose hooks can fail too.
    pub fn random(host: &(impl Host + ?Sized)) -> Self {
        let mut id = [0; 8];
        host.random(&mut id);
        Self(u64::from_le_bytes(id))
    }
}

impl fmt::Display for ErrorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Reads what it prints as.
impl std::str::FromStr for ErrorId {
    type Err = std::num::ParseIntError;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(id, 16).map(Self)
    }
}

impl fmt::Debug for ErrorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorId({self})")
    }
}

#[cfg(test)]
impl ErrorId {
    pub(crate) fn planned(number: u64) -> Self {
        Self(number)
    }
}

/// One of the functions of a [`Server`](crate::Server).
///
/// ```
/// use partykit_core::Handler;
///
/// assert_eq!(Handler::OnMessage.name(), "on_message");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is named after its function")]
pub enum Handler {
    OnAlarm,
    OnBeforeConnect,
    OnBeforeRequest,
    OnClose,
    OnConnect,
    OnError,
    OnMessage,
    OnRequest,
    OnStart,
    OnTask,
}

impl Handler {
    /// The name of the function: `"on_message"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnAlarm => "on_alarm",
            Self::OnBeforeConnect => "on_before_connect",
            Self::OnBeforeRequest => "on_before_request",
            Self::OnClose => "on_close",
            Self::OnConnect => "on_connect",
            Self::OnError => "on_error",
            Self::OnMessage => "on_message",
            Self::OnRequest => "on_request",
            Self::OnStart => "on_start",
            Self::OnTask => "on_task",
        }
    }
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A handler that failed: what [`Server::on_error`](crate::Server::on_error) is told.
///
/// ```
/// use partykit_core::{FailureKind, HandlerError, Result, Room, Server};
///
/// struct Careful;
///
/// impl Server for Careful {
///     async fn on_error(&mut self, _room: &Room, error: HandlerError) -> Result {
///         if error.kind() == FailureKind::Timeout {
///             eprintln!("{} of {:?} took too long", error.handler(), error.connection());
///         }
///         Ok(())
///     }
/// }
/// ```
#[derive(Debug)]
pub struct HandlerError {
    pub(crate) handler: Handler,
    pub(crate) connection: Option<Connection>,
    pub(crate) failure: Failure,
    pub(crate) id: ErrorId,
}

impl HandlerError {
    /// Which handler failed.
    pub fn handler(&self) -> Handler {
        self.handler
    }

    /// Whose event it was: the connection of `on_connect`, `on_message` or `on_close`.
    pub fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// How it failed.
    pub fn kind(&self) -> FailureKind {
        match self.failure {
            Failure::Error(_) => FailureKind::Error,
            Failure::Panic(_) => FailureKind::Panic,
            Failure::Timeout(_) => FailureKind::Timeout,
            Failure::Commit(_) => FailureKind::Commit,
            Failure::SaidTooMuch { .. } => FailureKind::SaidTooMuch,
            Failure::Rejected(_) => FailureKind::Error,
        }
    }

    /// The id that the log has and that the client was given, if there was one to tell.
    pub fn id(&self) -> ErrorId {
        self.id
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.handler, self.failure)
    }
}

impl std::error::Error for HandlerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.failure {
            Failure::Error(error) => Some(&**error),
            _ => None,
        }
    }
}

/// How a handler failed.
///
/// ```
/// use partykit_core::{FailureKind, HandlerError};
///
/// fn is_a_bug(error: &HandlerError) -> bool {
///     matches!(error.kind(), FailureKind::Panic | FailureKind::Timeout)
/// }
/// # let _ = is_a_bug;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// What it wrote could not be stored.
    Commit,
    /// It returned an `Err`.
    Error,
    /// It panicked.
    Panic,
    /// It said more than may wait in a room, see [`Options::max_held`](crate::Options::max_held).
    SaidTooMuch,
    /// It ran into [`Options::handler_timeout`](crate::Options::handler_timeout) or
    /// [`Options::connect_timeout`](crate::Options::connect_timeout).
    Timeout,
}

/// A failure with its detail, which stays on the server.
#[derive(Debug)]
pub(crate) enum Failure {
    Error(BoxError),
    Panic(String),
    Timeout(Duration),
    Commit(String),
    SaidTooMuch {
        bytes: usize,
        limit: usize,
    },
    /// The client's fault.
    Rejected(Reject),
}

impl Failure {
    /// Whose fault it is: in a handler of something that a client did, a [`Reject`] is the client's.
    pub(crate) fn judged(self, handler: Handler) -> Self {
        let is_clients = matches!(
            handler,
            Handler::OnClose | Handler::OnConnect | Handler::OnMessage | Handler::OnRequest
        );
        match self {
            Self::Error(error) if is_clients => {
                Reject::find(&*error).map_or(Self::Error(error), Self::Rejected)
            }
            failure => failure,
        }
    }

    /// What happened, in words of ours alone.
    pub(crate) fn what(&self) -> String {
        match self {
            Self::Error(_) => "failed".to_owned(),
            Self::Rejected(reject) => format!("answered {}", reject.status()),
            Self::Panic(_) => "panicked".to_owned(),
            Self::Timeout(limit) => format!("was cancelled after {limit:?}"),
            Self::Commit(_) => "was rolled back, the commit failed".to_owned(),
            Self::SaidTooMuch { bytes, limit } => format!(
                "said too much at once: {bytes} bytes would wait to leave the room, and at most \
                 {limit} may (Options::max_held). Wait in between: connection.drained(..).await"
            ),
        }
    }

    /// What the application or the backend says of it. It may hold what a client sent, line breaks too:
    /// in the log it is a field of its own, which every subscriber quotes, and not a part of the message.
    pub(crate) fn detail(&self) -> Option<String> {
        match self {
            Self::Error(error) => Some(error.to_string()),
            Self::Panic(detail) | Self::Commit(detail) => Some(detail.clone()),
            Self::Rejected(reject) => Some(reject.text().to_owned()),
            Self::Timeout(_) | Self::SaidTooMuch { .. } => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what())?;
        self.detail().map_or(Ok(()), |detail| write!(f, ": {detail}"))
    }
}

/// Why a room did not answer a request, or did not let a connection in.
///
/// ```
/// use std::time::Duration;
/// use partykit_core::Refusal;
///
/// let answer = Refusal::Unavailable(Duration::from_secs(2)).response();
/// assert_eq!(answer.status(), 503);
/// assert_eq!(answer.headers()["retry-after"], "3");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The handler failed, or the room could not start. The log has the detail under this id.
    #[error("the room failed, error {0}")]
    Failed(ErrorId),
    /// The room has as many connections as [`Options::max_connections`](crate::Options::max_connections)
    /// allows.
    #[error("the room has reached its limit of connections")]
    Full,
    /// Too many events wait for the room already.
    #[error("the room is overloaded")]
    Overloaded,
    /// The room failed to start several times in a row; it may be asked again after this time.
    #[error("the room cannot start, try again in {0:?}")]
    Unavailable(Duration),
    /// The room is not in memory, and the server has as many there as it may have.
    #[error("the server has reached its limit of rooms")]
    TooManyRooms,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl Refusal {
    /// The HTTP status that says so: 500 for [`Refusal::Failed`], 503 for the others.
    pub fn status(&self) -> http::StatusCode {
        match self {
            Self::Failed(_) => http::StatusCode::INTERNAL_SERVER_ERROR,
            _ => http::StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The answer for a client: the status, a generic line with the error id if there is one, and
    /// `Retry-After` where it is known.
    pub fn response(&self) -> crate::Response {
        let mut response = crate::Response::new(format!("{self}\n").into());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert("content-type", http::HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Self::Unavailable(after) = self {
            headers.insert("retry-after", (after.as_secs() + 1).into());
        }
        response
    }
}

/// Why a call to another room failed.
///
/// ```
/// use partykit_core::{Body, CallError, Request, Response, Room};
///
/// async fn ask(room: &Room) -> Result<Option<Response>, CallError> {
///     match room.party("counter").room("all").request(Request::new(Body::empty())).await {
///         Ok(answer) => Ok(Some(answer)),
///         Err(CallError::Timeout(..) | CallError::Refused(..)) => Ok(None),
///         Err(error) => Err(error),
///     }
/// }
/// # let _ = ask;
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The handler has written to storage and not committed yet. Call first, or
    /// [`Storage::sync`](crate::Storage::sync) before calling: whatever is called must not learn of
    /// writes that may still be rolled back.
    #[error("call to {0} with uncommitted writes; call first, or storage().sync() before it")]
    UncommittedWrites(RoomAddress),
    /// The called room already waits for this one, itself or through others.
    #[error("call to {0}, which already waits for this room")]
    Cycle(RoomAddress),
    /// No party of this name is registered.
    #[error("no party is named {0:?}")]
    UnknownParty(String),
    /// The room's id is not one.
    #[error(transparent)]
    InvalidRoom(#[from] crate::InvalidRoomId),
    /// No answer within [`Options::call_timeout`](crate::Options::call_timeout). This says nothing
    /// about what the called room did.
    #[error("no answer from {0} within {1:?}")]
    Timeout(RoomAddress, Duration),
    /// The called room did not answer.
    #[error("{0}: {1}")]
    Refused(RoomAddress, Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::BackendError),
    /// A commit that had to be durable before the call could leave has failed.
    #[error("the writes before the call to {0} could not be stored")]
    CommitFailed(RoomAddress),
}

/// The message of a panic's payload.
pub(crate) fn panic_message(payload: Box<dyn std::any::Any + Send>) -> String {
    let text = payload
        .downcast::<String>()
        .map(|text| *text)
        .or_else(|payload| payload.downcast::<&'static str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|_| "a value that is not text".to_owned())
}
