//! What a machine wants done.

use std::{sync::Arc, time::Duration};

use super::{answer::Answer, effect::Effect, event::Event, fact::Fact, ids::TurnId};
use crate::{
    Batch, Close, Connection, Epoch, ErrorId, Timestamp, connection::peer::Peer, storage::Planned,
    value::failure::Failure,
};

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
    /// Commit the batch under this claim, then report it. Without a claim it has failed.
    Commit(Arc<Batch>, Option<Epoch>),
    /// Drop this outside of all locks: it holds users' values.
    Discard(Discard),
    /// Drop the instance, for this reason.
    DropInstance(Fact),
    Effect(Effect),
    /// Tell the runtime.
    Fact(Fact),
    Flush,
    /// The handler of this schedule failed too often. When it runs next, if it does.
    GivenUp(Planned, Option<Timestamp>),
    /// Have the socket find out whether its client is still there.
    Probe(Peer),
    /// Tell a connecting socket that it may not come in.
    Refuse(Connection, Close),
    /// Run this as the turn of this number.
    Run(TurnId, Job),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CancelReason {
    CommitFailed(ErrorId),
    /// What the handler said would take `bytes` of memory; `limit` is the most it may take.
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
    Answer(Answer),
}

/// What the driver has to run.
#[derive(Debug)]
pub(crate) enum Job {
    /// `on_start`.
    Start,
    /// The handler of an event; where its answer goes is with the turn.
    Handle(Event),
}

impl Job {
    /// The handler that it runs.
    #[cfg(test)]
    pub(crate) fn handler(&self) -> crate::Handler {
        match self {
            Self::Start => crate::Handler::OnStart,
            Self::Handle(event) => event.handler(),
        }
    }
}

/// A handler, a claim or a commit that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) id: ErrorId,
}
