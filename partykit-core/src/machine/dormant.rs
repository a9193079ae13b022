//! A room that sleeps, as data.

use std::{
    fmt, mem,
    sync::{Arc, Weak},
    time::Duration,
};

use super::{
    Machine, Mailboxes, RoomPhase, RoomStats, StartReason,
    account::Book,
    accountant::Accountant,
    attempts::Attempts,
    awake::Holders,
    gate::Gate,
    lane::Lane,
    ledger::Ledger,
    mailbox::Mailbox,
    records::{AtRest, Records},
    roster::Roster,
};
use crate::{Epoch, Options, RoomId, connection::Owner};

/// What is left of a machine while its room sleeps and nothing waits. The next event makes a machine of it.
pub(crate) struct Dormant {
    records: AtRest,
    ledger: Ledger,
    /// The claim, if `claimed`.
    epoch: Epoch,
    claimed: bool,
    /// The number of the last task or guard. After four billion they begin again.
    last_hold: u32,
    /// Failed starts in a row. More than 255 count as 255: the longest wait begins long before.
    start_failures: u8,
    /// Nothing is stored.
    blank: bool,
    visited: bool,
}

impl Dormant {
    /// A room to which nothing has happened. Takes nothing from the allocator.
    pub(crate) fn new() -> Self {
        Self::with(AtRest::default(), Ledger::blank())
    }

    /// A room that comes back with these connections.
    pub(crate) fn of(records: Records, now: Duration) -> Self {
        Self::with(records.into(), Ledger::of(Book::new(now)))
    }

    fn with(records: AtRest, ledger: Ledger) -> Self {
        Self {
            records,
            ledger,
            epoch: Epoch(0),
            claimed: false,
            last_hold: 0,
            start_failures: 0,
            blank: false,
            visited: false,
        }
    }

    /// Something happens to the room of this `id`. `all` are the mailboxes of all rooms, if they share a limit;
    /// `room` is what the handles of the connections are given.
    #[inline]
    pub(crate) fn wake(
        self,
        id: &RoomId,
        options: Arc<Options>,
        all: Option<Arc<Mailboxes>>,
        room: Weak<dyn Owner>,
        now: Duration,
    ) -> Machine {
        let (gate, mut holders) = (Gate::default(), Holders::default());
        holders.continue_from(self.last_hold.into());
        Machine {
            options,
            phase: RoomPhase::Asleep,
            roster: Roster::new(self.records.wake(id), room),
            mailbox: Mailbox::of(all),
            condemned: Vec::new(),
            clogged: Vec::new(),
            blank_at: self.blank.then(|| gate.written()),
            gate,
            holders,
            accountant: Accountant::new(self.ledger, now),
            turn: None,
            last_turn: 0,
            attempts: Attempts::default(),
            epoch: self.claimed.then_some(self.epoch),
            start_reason: StartReason::First,
            start_failures: self.start_failures.into(),
            refused_until: Duration::ZERO,
            remembered_until: None,
            idle_since: now,
            visited: self.visited,
            stateless: false,
            crowded: false,
            draining: false,
            outputs: Lane::default(),
            unflushed: false,
            turns_unflushed: 0,
            bytes_unflushed: 0,
        }
    }

    pub(crate) fn records(&mut self) -> &mut AtRest {
        &mut self.records
    }

    /// Nothing is left of the room but what is in storage.
    pub(crate) fn is_vacant(&self) -> bool {
        self.records.len() == 0
    }

    /// Gives the claim back: the next start claims again.
    pub(crate) fn release_claim(&mut self) -> Option<Epoch> {
        mem::take(&mut self.claimed).then_some(self.epoch)
    }

    /// The room as it is now, without what waits at its sockets.
    pub(crate) fn stats(&self, now: Duration) -> RoomStats {
        RoomStats {
            phase: RoomPhase::Asleep,
            connections: self.records.listed(),
            mailbox: 0,
            mailbox_bytes: 0,
            held: 0,
            held_bytes: 0,
            undelivered_bytes: 0,
            reasons: Vec::new(),
            sleeps_in: None,
            account: self.ledger.account(now),
        }
    }
}

impl Machine {
    /// What is left if the room sleeps and nothing is lost by it. Then the machine is empty, and to be dropped.
    pub(crate) fn rest(&mut self) -> Option<Dormant> {
        let may_rest = self.is_at_rest()
            && !self.draining
            && !self.mailbox.has_kept()
            && self.condemned.is_empty()
            && self.holders.is_empty()
            && self.attempts.is_empty()
            && self.remembered_until.is_none();
        may_rest.then(|| Dormant {
            blank: self.is_blank(),
            records: self.roster.rest().into(),
            ledger: Ledger::of(self.accountant.book()),
            epoch: self.epoch.unwrap_or(Epoch(0)),
            claimed: self.epoch.is_some(),
            last_hold: u32::try_from(self.holders.last()).unwrap_or(0),
            start_failures: u8::try_from(self.start_failures).unwrap_or(u8::MAX),
            visited: self.visited,
        })
    }
}

impl fmt::Debug for Dormant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dormant").field("records", &self.records.len()).finish_non_exhaustive()
    }
}
