use std::{collections::BTreeMap, sync::Arc};

use partykit_core::{Account, RoomId};
use serde::{Serialize, Serializer};

use crate::store::StoreStats;

/// The state of a runtime.
///
/// As JSON, times are numbers of seconds.
///
/// ```no_run
/// # fn show(stats: partykit_runtime_tokio::RuntimeStats) {
/// for (party, stats) in &stats.parties {
///     println!("{party}: {} connections in {} rooms", stats.connections, stats.rooms);
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RuntimeStats {
    /// All parties by name, including those without rooms.
    #[serde(serialize_with = "by_name")]
    pub parties: BTreeMap<Arc<str>, PartyStats>,
    /// How many threads of this process are blocked: a handler or hook has run on the thread for over a
    /// second without awaiting. The log names the handler at level `warn` while it blocks.
    pub blocked_threads: usize,
    /// How many times a thread was blocked, since the start of the process.
    pub blocks: u64,
    /// The store on disk. `None` if rooms store elsewhere.
    pub store: Option<StoreStats>,
}

/// The state of a party's rooms.
///
/// ```
/// use partykit_runtime_tokio::{Handle, PartyStats};
///
/// fn busiest(handle: &Handle) -> Option<usize> {
///     handle.stats().parties.values().map(|party: &PartyStats| party.connections).max()
/// }
/// # let _ = busiest;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PartyStats {
    /// Rooms in memory: awake, or asleep with connections. Other rooms use no memory and do not count.
    pub rooms: usize,
    /// Rooms in memory without an instance.
    pub asleep: usize,
    /// Rooms with an instance, or about to have one.
    pub awake: usize,
    /// Connections of all rooms that are listed: their `on_connect` has succeeded.
    pub connections: usize,
    /// Clients that were closed because they read too slowly, since the start of the process.
    pub slow_clients: u64,
    /// Events that wait for rooms.
    pub mailbox: usize,
    /// Bytes of memory of these events, with their places in the queue.
    pub mailbox_bytes: usize,
    /// Messages and other outputs that wait for a commit of their room.
    pub held: usize,
    /// Bytes in these outputs.
    pub held_bytes: usize,
    /// Bytes of memory of what waits to be read by clients. A broadcast counts once, not once for each
    /// client.
    pub outbound_bytes: usize,
    /// Bytes that wait to be read by clients, counted for each client.
    pub undelivered_bytes: usize,
    /// The sum over all rooms since the start of the process, including rooms that are not in memory any
    /// more: times, wakes by cause, reasons to stay awake. [`Account::longest_awake`] is the longest time of
    /// a single room.
    pub account: Account,
    /// The room with the longest time awake.
    pub longest_awake_in: Option<RoomId>,
}

fn by_name<S: Serializer>(
    parties: &BTreeMap<Arc<str>, PartyStats>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(parties.iter().map(|(name, stats)| (&**name, stats)))
}
