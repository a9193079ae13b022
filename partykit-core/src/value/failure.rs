use std::{fmt, time::Duration};

use crate::{BoxError, Handler, Reject};

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
    /// It sent more than may wait in a room: see [`Options::max_held`](crate::Options::max_held).
    SaidTooMuch,
    /// It took longer than [`Options::handler_timeout`](crate::Options::handler_timeout) or
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
    /// Decides whose fault it is. A [`Reject`] is the client's fault if the handler is for something that a
    /// client did.
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

    /// What happened, without text of the application or of clients.
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

    /// The text of the application or the backend. It may contain what a client sent, also line breaks. So in
    /// the log it is a field of its own, which subscribers quote, and not a part of the message.
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

/// The message of a panic's payload.
pub(crate) fn panic_message(payload: Box<dyn std::any::Any + Send>) -> String {
    let text = payload
        .downcast::<String>()
        .map(|text| *text)
        .or_else(|payload| payload.downcast::<&'static str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|_| "a value that is not text".to_owned())
}
