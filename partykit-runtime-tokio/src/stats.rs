use std::{collections::BTreeMap, sync::Arc};

use partykit_core::{Account, RoomId};

use crate::StoreStats;

/// How a runtime is right now.
///
/// ```no_run
/// # fn show(stats: partykit_runtime_tokio::RuntimeStats) {
/// for (party, stats) in &stats.parties {
///     println!("{party}: {} connections in {} rooms", stats.connections, stats.rooms);
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuntimeStats {
    /// Every party by its name, also one without rooms.
    pub parties: BTreeMap<Arc<str>, PartyStats>,
    /// How many threads of this process are blocked: a handler or hook has held each for over a second
    /// without awaiting. The log names it at level `warn`, while it does.
    pub blocked_threads: usize,
    /// How many times a thread was blocked, since the start of the process.
    pub blocks: u64,
    /// The store on disk; `None` if rooms store elsewhere.
    pub store: Option<StoreStats>,
}

/// How the rooms of a party are right now.
///
/// ```
/// use partykit_runtime_tokio::{Handle, PartyStats};
///
/// fn busiest(handle: &Handle) -> Option<usize> {
///     handle.stats().parties.values().map(|party: &PartyStats| party.connections).max()
/// }
/// # let _ = busiest;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartyStats {
    /// Rooms in memory: awake, or asleep with connections. Others cost nothing and are not known.
    pub rooms: usize,
    /// Those of them without an instance.
    pub asleep: usize,
    /// Those of them with an instance, or about to have one.
    pub awake: usize,
    /// Listed connections of all its rooms.
    pub connections: usize,
    /// Clients that were closed because they read too slowly, since the start of the process.
    pub slow_clients: u64,
    /// Events that wait for rooms.
    pub mailbox: usize,
    /// Bytes of memory that they take, their places in the queue included.
    pub mailbox_bytes: usize,
    /// What rooms said and that waits for their commits.
    pub held: usize,
    /// Bytes in that.
    pub held_bytes: usize,
    /// Bytes of memory that are taken by what waits for clients to read it: a broadcast counts once,
    /// however many it waits for.
    pub outbound_bytes: usize,
    /// Bytes that wait for clients to read them, counted for each client.
    pub undelivered_bytes: usize,
    /// The sum over all rooms since the start of the process, also those that are not in memory any
    /// more: time, wakes by cause, what it was awake for. Its
    /// [longest time awake](Account::longest_awake) is the longest of all rooms.
    pub account: Account,
    /// The room that had it.
    pub longest_awake_in: Option<RoomId>,
}
