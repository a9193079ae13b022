//! One run of one handler: what is kept of it until it ends.

use std::time::Duration;

use futures_core::future::BoxFuture;

use super::{
    Effect, Reply, TurnId,
    alarm::{Errand, Ringing},
    gate::Author,
    ids::TransactionId,
    overlay::Overlay,
};
use crate::{
    Connection, Handler,
    value::{chain::Chain, order::Order},
};

/// One run of one handler: a transaction.
pub(super) struct Turn {
    pub(super) id: TurnId,
    pub(super) handler: Handler,
    /// Whose event it is.
    pub(super) connection: Option<Connection>,
    pub(super) chain: Chain,
    pub(super) reply: Option<Reply>,
    /// The alarm that it is the handler of.
    pub(super) ringing: Option<Ringing>,
    pub(super) deadline: Duration,
    pub(super) limit: Duration,
    /// The driver was given its handler: `on_start` has to wait for the claim first.
    pub(super) begun: bool,
    /// The driver was told to cancel it.
    pub(super) cancelled: bool,
    /// The number of the last write before its own.
    pub(super) base: u64,
    pub(super) overlay: Overlay,
    pub(super) spawns: Vec<(TransactionId, u64, BoxFuture<'static, ()>)>,
    /// What was said to the connection that is connecting: by which transaction, with the number of the
    /// last write of the turn before it, or 0. Its handshake has to be answered first.
    pub(super) deferred: Vec<(TransactionId, u64, Effect)>,
    /// The connection that is connecting has ended meanwhile.
    pub(super) gone: Option<crate::Close>,
    /// Some of what it wrote was handed to a commit already.
    pub(super) synced: bool,
    /// A commit of writes before it has failed: what it read is void, and so is all that it does.
    pub(super) void: bool,
    /// The memory of what it said and that may leave, but did not get the chance to yet.
    pub(super) said: usize,
    /// The memory of what it said and that waits for a commit.
    pub(super) held: usize,
    /// The memory of what is in `deferred`.
    pub(super) deferred_cost: usize,
    /// It said too much: this many bytes.
    pub(super) overflow: Option<usize>,
    /// The server goes down, and has cut its time short.
    pub(super) called_off: bool,
    /// What it does before the room starts.
    pub(super) errand: Option<Errand>,
    /// How often some of what it wrote was handed to a commit.
    pub(super) syncs: u64,
    /// A transaction was used after the one around it had ended: it did not do what was said.
    pub(super) misused: bool,
    /// What it does for an operator.
    pub(super) order: Option<Order>,
}

impl Turn {
    pub(super) fn new(
        id: TurnId,
        handler: Handler,
        connection: Option<Connection>,
        base: u64,
        deadline: Duration,
        limit: Duration,
    ) -> Self {
        Self {
            id,
            handler,
            connection,
            chain: Chain::new(),
            reply: None,
            ringing: None,
            deadline,
            limit,
            begun: handler != Handler::OnStart,
            cancelled: false,
            base,
            overlay: Overlay::default(),
            spawns: Vec::new(),
            deferred: Vec::new(),
            gone: None,
            synced: false,
            void: false,
            said: 0,
            held: 0,
            deferred_cost: 0,
            overflow: None,
            called_off: false,
            errand: None,
            syncs: 0,
            misused: false,
            order: None,
        }
    }

    pub(super) fn is_connecting(&self, key: u64) -> bool {
        self.handler == Handler::OnConnect && self.is_of(key)
    }

    pub(super) fn is_message_of(&self, key: u64) -> bool {
        self.handler == Handler::OnMessage && self.is_of(key)
    }

    fn is_of(&self, key: u64) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.key() == key)
    }

    /// Whether it is the start, or the handler of a message, and has only spoken.
    pub(super) fn only_spoke(&self) -> bool {
        matches!(self.handler, Handler::OnMessage | Handler::OnStart)
            && !self.has_written()
            && self.spawns.is_empty()
    }

    /// Whether a failure would leave the instance at odds with storage or states.
    pub(super) fn has_written(&self) -> bool {
        self.void || self.synced || !self.overlay.is_empty() || self.overlay.has_states()
    }

    pub(super) fn author(&self) -> Author {
        (self.handler, self.connection.clone())
    }
}
