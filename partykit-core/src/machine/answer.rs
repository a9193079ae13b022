use futures_channel::oneshot;

use crate::{Refusal, Response};

/// What a handler that succeeded gives back.
#[derive(Debug)]
pub(crate) enum Answer {
    Done,
    /// The room need not start for what it was woken for.
    NotNow,
    Response(Response),
}

/// Where the answer to an event goes.
pub(crate) type Reply = oneshot::Sender<Result<Answer, Refusal>>;
