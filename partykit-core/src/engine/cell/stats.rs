use std::time::Duration;

use super::RoomCell;
use crate::{Account, AwakeReason, Connection, machine::Phase};

/// How a room is right now.
///
/// ```no_run
/// # fn show(stats: partykit_core::RoomStats) {
/// println!("{:?} with {} connections", stats.phase, stats.connections);
/// println!("slept {:.1} % of its life", 100.0 * stats.account.resident_saved());
/// # }
/// ```
#[derive(Clone, Debug)]
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
    /// What the room said and that waits for a commit: frames, closes, responses and the like.
    pub held: usize,
    /// Bytes of memory that it takes, 128 of them for each beside what it carries.
    pub held_bytes: usize,
    /// Bytes that wait at the sockets for clients to take them, counted for each client: a broadcast
    /// that waits for ten clients counts ten times, though it is in memory once.
    pub undelivered_bytes: usize,
    /// Why it does not sleep, other than that its idle time is not over.
    pub reasons: Vec<AwakeReason>,
    /// When it will sleep if nothing happens.
    pub sleeps_in: Option<Duration>,
    /// How it has spent its life.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "these are the states of the machine")]
pub enum RoomPhase {
    /// No instance is in memory.
    Asleep,
    /// `on_start` runs.
    Waking,
    /// An instance is in memory.
    Awake,
}

impl RoomCell {
    /// The handler that runs, if one does. Wakes no room. Works while the handler blocks its thread.
    pub fn running(&self) -> Option<crate::Handler> {
        self.lock().machine.running()
    }

    /// The state of the room. Does not wake it.
    pub fn stats(&self) -> RoomStats {
        let now = self.host.elapsed();
        let mut state = self.lock();
        let machine = &mut state.machine;
        let depths = machine.depths();
        let sockets: Vec<Connection> = machine.roster().every().cloned().collect();
        let reasons = machine.reasons();
        let idles = machine.phase() == Phase::Awake && reasons.is_empty();
        let until = machine.idle_since().saturating_add(machine.idle_time());
        let mut stats = RoomStats {
            phase: match machine.phase() {
                Phase::Asleep => RoomPhase::Asleep,
                Phase::Waking => RoomPhase::Waking,
                Phase::Awake => RoomPhase::Awake,
            },
            connections: machine.roster().count(),
            mailbox: depths.mailbox,
            mailbox_bytes: depths.mailbox_bytes,
            held: depths.held,
            held_bytes: depths.held_bytes,
            undelivered_bytes: 0,
            sleeps_in: idles.then(|| until.saturating_sub(now)),
            reasons,
            account: machine.account(now),
        };
        // A socket has a lock of its own, which is not to be taken under this one.
        drop(state);
        stats.undelivered_bytes =
            sockets.iter().map(|connection| connection.socket().queued()).sum();
        stats
    }
}
