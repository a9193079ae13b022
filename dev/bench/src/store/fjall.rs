use std::path::Path;

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use partykit::Result;

use super::{Group, key, value};

/// fjall as it is: one batch and one sync for all commits that wait.
pub(crate) struct Fjall(Group<(usize, u64)>);

impl Fjall {
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let database = Database::builder(directory).open()?;
        let rows = database.keyspace("rows", KeyspaceCreateOptions::default)?;
        Ok(Self(Group::start(move |commits| {
            let mut batch = database.batch().durability(Some(PersistMode::SyncData));
            for (room, round) in commits {
                batch.insert(&rows, key(*room), value(*room, *round));
            }
            Ok(batch.commit()?)
        })))
    }

    pub(crate) async fn commit(&self, room: usize, round: u64) -> Result<()> {
        self.0.commit((room, round)).await
    }
}
