use std::time::Duration;

use serde::Serialize;

use super::{Account, AwakeReason, Machine};
use crate::value::{limits, shapes};

/// The state of a room.
///
/// As JSON, times are numbers of seconds.
///
/// ```no_run
/// # fn show(stats: partykit_core::RoomStats) {
/// println!("{:?} with {} connections", stats.phase, stats.connections);
/// println!("slept {:.1} % of its life", 100.0 * stats.account.resident_saved());
/// # }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RoomStats {
    /// Asleep, waking or awake.
    pub phase: RoomPhase,
    /// Listed connections.
    pub connections: usize,
    /// Events that wait.
    pub mailbox: usize,
    /// Bytes of memory that they take, their places in the queue included.
    pub mailbox_bytes: usize,
    /// Outputs that wait for a commit: frames, closes, responses and so on.
    pub held: usize,
    /// Bytes of memory that it takes, 256 of them for each beside what it carries.
    pub held_bytes: usize,
    /// Bytes that wait at the sockets, counted for each client: a broadcast that waits for ten clients counts
    /// ten times, although it is in memory once.
    pub undelivered_bytes: usize,
    /// The reasons why it does not sleep, apart from its idle time.
    pub reasons: Vec<AwakeReason>,
    /// When it will sleep if nothing happens.
    #[serde(serialize_with = "shapes::maybe_seconds")]
    pub sleeps_in: Option<Duration>,
    /// How long it was awake, and why.
    pub account: Account,
}

/// Whether a room has an instance.
///
/// ```
/// use partykit_core::{RoomPhase, RoomStats};
///
/// fn is_in_memory(stats: &RoomStats) -> bool {
///     stats.phase != RoomPhase::Asleep
/// }
/// # let _ = is_in_memory;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(clippy::exhaustive_enums, reason = "these are the states of the machine")]
pub enum RoomPhase {
    /// No instance is in memory.
    Asleep,
    /// `on_start` runs.
    Waking,
    /// An instance is in memory.
    Awake,
}

impl Machine {
    /// The room as it is now, without what waits at its sockets.
    pub(crate) fn stats(&self, now: Duration) -> RoomStats {
        let reasons = self.reasons();
        let idles = self.phase == RoomPhase::Awake && reasons.is_empty();
        let until = self.idle_since.saturating_add(self.idle_time());
        RoomStats {
            phase: self.phase,
            connections: self.roster.count(),
            mailbox: self.mailbox.len(),
            mailbox_bytes: self.mailbox.bytes(),
            held: self.gate.held(),
            held_bytes: self.gate.held_bytes(),
            undelivered_bytes: 0,
            sleeps_in: idles.then(|| until.saturating_sub(now)),
            reasons,
            account: self.accountant.account(now, self.holders.longest(now)),
        }
    }

    /// How long the room stays awake after the last thing that happened. A room that has no connection and
    /// has never stored anything need not stay.
    pub(super) fn idle_time(&self) -> Duration {
        let is_blank = self.roster.len() == 0 && self.is_blank();
        // "Sleep is invisible": what hibernates loses nothing that its `on_start` does not rebuild.
        let is_no_loss = self.stateless || self.options.hibernate;
        match is_blank {
            true if self.crowded => Duration::ZERO,
            true if is_no_loss && !self.visited => {
                self.options.hibernate_after.min(limits::BLANK_IDLE)
            }
            _ => self.options.hibernate_after,
        }
    }
}
