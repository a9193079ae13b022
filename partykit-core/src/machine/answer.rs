use futures_channel::oneshot;

use crate::{Refusal, Response};

/// What a handler that succeeded gives back.
#[derive(Debug)]
pub(crate) enum Answer {
    Done,
    /// The room need not start for what it was woken for.
    NotNow,
    /// In a box: all that waits to leave a room would have its size.
    Response(Box<Response>),
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Response(Box::new(response))
    }
}

/// Where the answer to an event goes.
pub(crate) type Reply = oneshot::Sender<Result<Answer, Refusal>>;
