use std::{
    collections::HashMap,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use partykit::storage::rig::Planted;
use partykit::{
    RoomAddress,
    storage::{Backend, BackendError, Batch, Epoch, WakeUp},
    testing::WrappedBackend,
};
use tokio::{sync::OwnedMutexGuard, time::sleep};

/// What a store may get wrong, for the checker to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the tests name all of them")]
pub enum Fault {
    /// A commit is said to be done before it is: frames leave too early.
    EarlyFrames,
    /// A batch is committed in two halves.
    SplitBatch,
    /// An alarm or a schedule is removed when it rings, not when its handler has committed.
    EarlyRemoval,
    /// A backup is what the store was when the one before it was asked for.
    StaleCopy,
    /// Something inside of the store.
    Planted(Planted),
}

impl Fault {
    /// All that are not inside of the store.
    pub const ALL: [Self; 4] =
        [Self::EarlyFrames, Self::SplitBatch, Self::EarlyRemoval, Self::StaleCopy];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EarlyFrames => "early-frames",
            Self::SplitBatch => "split-batch",
            Self::EarlyRemoval => "early-removal",
            Self::StaleCopy => "stale-copy",
            Self::Planted(planted) => return planted.fmt(f),
        })
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|fault| fault.to_string() == name);
        found.map_or_else(|| name.parse().map(Self::Planted), Ok)
    }
}

/// For how long a fault leaves the store as it should never be: so that kills find it like that.
const WINDOW: Duration = Duration::from_millis(20);

/// The same for an alarm, of which there are fewer.
const ALARM_WINDOW: Duration = Duration::from_millis(100);

/// The row of an alarm, as core stores it.
const ALARM: &[u8] = b"\x00alarm";

/// What the row of a schedule begins with, and that of its place in their order.
const SCHEDULE: [&[u8]; 2] = [b"\x00s", b"\x00t"];

/// A store that has a fault.
pub(crate) struct Faulty {
    inner: Arc<dyn Backend>,
    fault: Fault,
    rooms: Mutex<HashMap<RoomAddress, Arc<tokio::sync::Mutex<()>>>>,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn Backend>, fault: Fault) -> Self {
        Self { inner, fault, rooms: Mutex::default() }
    }

    /// Waits until nothing is written behind the room's back.
    async fn turn(&self, room: &RoomAddress) -> OwnedMutexGuard<()> {
        let turn = {
            let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            rooms.entry(room.clone()).or_default().clone()
        };
        turn.lock_owned().await
    }
}

#[async_trait]
impl WrappedBackend for Faulty {
    type Inner = dyn Backend;

    fn inner(&self) -> &dyn Backend {
        &*self.inner
    }

    async fn reading<T: Send>(
        &self,
        room: Option<&RoomAddress>,
        read: impl Future<Output = Result<T, BackendError>> + Send,
    ) -> Result<T, BackendError> {
        let _turn = match room {
            Some(room) => Some(self.turn(room).await),
            None => None,
        };
        read.await
    }

    async fn committing(
        &self,
        room: &RoomAddress,
        epoch: Epoch,
        mut batch: Batch,
    ) -> Result<(), BackendError> {
        let turn = self.turn(room).await;
        match self.fault {
            Fault::EarlyFrames => {
                let (inner, room) = (self.inner.clone(), room.clone());
                tokio::spawn(async move {
                    sleep(WINDOW).await;
                    // A client that was told that it is done cannot be told that it is not.
                    let _ = inner.commit(&room, epoch, batch).await;
                    drop(turn);
                });
                Ok(())
            }
            Fault::SplitBatch => {
                let half = batch.writes.keys().nth(batch.writes.len() / 2).cloned();
                let second = half.map(|half| batch.writes.split_off(&half)).unwrap_or_default();
                let second = Batch { writes: second, wake_up: batch.wake_up.take(), clear: false };
                self.inner.commit(room, epoch, batch).await?;
                sleep(WINDOW).await;
                self.inner.commit(room, epoch, second).await
            }
            Fault::StaleCopy | Fault::Planted(_) => self.inner.commit(room, epoch, batch).await,
            Fault::EarlyRemoval => {
                let of_schedule = |key: &[u8]| SCHEDULE.iter().any(|rows| key.starts_with(rows));
                if batch.writes.len() == 3 && batch.writes.keys().all(|key| of_schedule(key)) {
                    batch.writes.values_mut().for_each(|row| *row = None);
                    self.inner.commit(room, epoch, batch).await?;
                    sleep(ALARM_WINDOW).await;
                    return Ok(());
                }
                // That it rings is stored by itself; handlers that set one write more.
                let is_alone = batch.writes.len() == 1;
                let row = batch.writes.get_mut(ALARM).filter(|row| row.is_some());
                let Some(row) = row.filter(|_| is_alone) else {
                    return self.inner.commit(room, epoch, batch).await;
                };
                *row = None;
                batch.wake_up = Some(WakeUp::Never);
                self.inner.commit(room, epoch, batch).await?;
                sleep(ALARM_WINDOW).await;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_called_what_it_prints() {
        for fault in Fault::ALL.into_iter().chain(Planted::ALL.map(Fault::Planted)) {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        assert!("no-fault".parse::<Fault>().is_err());
    }
}
