use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicI64},
};

use partykit::{
    Result,
    storage::{Backend, DiskBackend, Durability, rig},
};
use tokio::task::JoinSet;

use super::{
    Life,
    room::{ROOMS, Room, Wrong, address, ask_for_wake_ups, scan_beside, wrong},
    versions::say,
};
use crate::server::SMALLER;

/// How many look at whole rooms beside those who write.
const READERS: usize = 2;

/// Opens the store, says what is in it, and works on it until it has done what it is to do. What is wrong
/// is said to the process that watches.
///
/// # Errors
///
/// None: all that can be wrong is said.
pub async fn live(life: &Life) -> Result {
    rig::shrink(SMALLER);
    if let Some(fault) = life.fault {
        rig::plant(fault);
    }
    match work(life).await {
        Ok(operations) => say(format_args!("ends {operations}")),
        Err(how) => say(format_args!("wrong: {}", how.replace('\n', " "))),
    }
    Ok(())
}

async fn work(life: &Life) -> Result<u64, Wrong> {
    let mut random = fastrand::Rng::with_seed(life.seed);
    // A kill takes nothing from either; without syncs there are more commits in the same time.
    let durability = if random.bool() { Durability::Durable } else { Durability::Relaxed };
    let disk = DiskBackend::open(&life.data, durability).map_err(|error| format!("{error:?}"))?;
    let store: Arc<dyn Backend> = Arc::new(disk.clone());
    let wakes = store.wake_ups(None, usize::MAX).await.map_err(wrong)?;
    let count = wakes.len();
    let wakes: HashMap<_, _> = wakes.into_iter().map(|(at, room)| (room, at.as_millis())).collect();
    let known = (0..ROOMS).filter(|room| wakes.contains_key(&address(*room))).count();
    if known != count {
        return Err(format!("{count} wake-ups, {known} of rooms that there are"));
    }
    let left = Arc::new(AtomicI64::new(life.operations.try_into().unwrap_or(i64::MAX)));
    let (mut workers, mut versions) = (Vec::new(), Vec::new());
    for number in 0..ROOMS {
        let wake = wakes.get(&address(number)).copied();
        let room = Room::open(store.clone(), number, wake, random.fork()).await?;
        versions.push(room.versions());
        workers.push(room);
    }
    let (versions, mut tasks) = (Arc::new(versions), JoinSet::new());
    for room in workers {
        tasks.spawn(room.work(left.clone()));
    }
    for _ in 0..READERS {
        tasks.spawn(scan_beside(store.clone(), versions.clone(), random.fork(), left.clone()));
    }
    tasks.spawn(ask_for_wake_ups(store.clone(), versions, random.fork(), left));
    let mut operations = 0;
    while let Some(done) = tasks.join_next().await {
        operations += done.map_err(|error| error.to_string())??;
    }
    if random.bool() {
        disk.close().await;
    }
    Ok(operations)
}
