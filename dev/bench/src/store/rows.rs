//! Rows of all rooms in one store: fjall's, and one SQLite database. Each takes all commits that wait as one.

use std::path::Path;

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use partykit::Result;
use rusqlite::Connection;

use super::Group;

type Row = ([u8; 16], Vec<u8>);

/// The key of a row of a room.
pub(crate) fn row(room: usize, at: usize) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&(room as u64).to_be_bytes());
    key[8..].copy_from_slice(&(at as u64).to_be_bytes());
    key
}

/// fjall with its defaults, one batch and one sync for all commits that wait.
pub(crate) struct FjallRows(Group<Row>);

impl FjallRows {
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let database = Database::builder(directory).open()?;
        let rows = database.keyspace("rows", KeyspaceCreateOptions::default)?;
        Ok(Self(Group::start(move |commits: &[Row]| {
            let mut batch = database.batch().durability(Some(PersistMode::SyncData));
            for (key, value) in commits {
                batch.insert(&rows, *key, value.as_slice());
            }
            Ok(batch.commit()?)
        })))
    }

    pub(crate) async fn commit(&self, key: [u8; 16], value: Vec<u8>) -> Result<()> {
        self.0.commit((key, value)).await
    }
}

/// One SQLite database for all rooms: a write-ahead log that is synced with each transaction, and one
/// transaction for all commits that wait.
pub(crate) struct OneSqlite(Group<Row>);

impl OneSqlite {
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let connection = Connection::open(directory.join("rooms.sqlite"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection
            .execute("CREATE TABLE rows (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID", ())?;
        Ok(Self(Group::start(move |commits: &[Row]| {
            let transaction = connection.unchecked_transaction()?;
            {
                let mut insert =
                    transaction.prepare_cached("INSERT OR REPLACE INTO rows VALUES (?1, ?2)")?;
                for (key, value) in commits {
                    insert.execute((key.as_slice(), value.as_slice()))?;
                }
            }
            Ok(transaction.commit()?)
        })))
    }

    pub(crate) async fn commit(&self, key: [u8; 16], value: Vec<u8>) -> Result<()> {
        self.0.commit((key, value)).await
    }
}
