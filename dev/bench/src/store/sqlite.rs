use std::path::{Path, PathBuf};

use partykit::Result;
use rusqlite::Connection;

use super::{key, value};

/// A SQLite file for each room, as local Durable Objects have: a write-ahead log, synced with each
/// commit.
pub(crate) struct SqlitePerRoom {
    directory: PathBuf,
}

/// The file of one room. Blocks its caller.
pub(crate) struct SqliteRoom {
    connection: Connection,
    room: usize,
}

impl SqlitePerRoom {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub(crate) fn room(&self, room: usize) -> Result<SqliteRoom> {
        let connection = Connection::open(self.directory.join(format!("{room}.sqlite")))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection
            .execute("CREATE TABLE rows (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID", ())?;
        Ok(SqliteRoom { connection, room })
    }
}

impl SqliteRoom {
    pub(crate) fn commit(&self, round: u64) -> Result<()> {
        let mut insert =
            self.connection.prepare_cached("INSERT OR REPLACE INTO rows VALUES (?1, ?2)")?;
        insert.execute((key(self.room).as_slice(), value(self.room, round).as_slice()))?;
        Ok(())
    }
}
