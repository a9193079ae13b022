use std::fmt;

use crate::{Connection, ErrorId, FailureKind, Handler, value::failure::Failure};

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
