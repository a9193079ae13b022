use std::{collections::BTreeMap, sync::Arc};

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
}
