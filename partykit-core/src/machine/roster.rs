use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use crate::Connection;

/// Which connections a room has, in the order in which they came. Survives every sleep.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    entries: BTreeMap<u64, Entry>,
    /// From the hash of a tag to the connections that have it. Ids are tags.
    index: HashMap<u64, Keys>,
    hasher: RandomState,
    listed: usize,
    /// The bytes of ids, uris, tags and committed states, of connections that were listed.
    attached: usize,
    /// A cached list of all listed connections. `None` after a change.
    snapshot: Option<Arc<[Connection]>>,
}

#[derive(Debug)]
struct Entry {
    connection: Connection,
    status: Status,
    /// Its part of [`Roster::attached`].
    size: u32,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Its connect waits in the mailbox, or its handshake is not answered yet. Listed while its
    /// `on_connect` runs.
    Connecting,
    Open,
    /// The server has closed it; the client's answer is awaited. Not listed.
    Closing,
}

/// The connections of one tag: nearly always one, because every id is a tag.
#[derive(Debug)]
enum Keys {
    One(u64),
    Many(BTreeSet<u64>),
}

impl Roster {
    /// Takes a connection in that is not listed yet.
    pub(super) fn insert(&mut self, connection: Connection) {
        self.entries
            .insert(connection.key(), Entry { connection, status: Status::Connecting, size: 0 });
    }

    /// Lists a connection whose tags are known now.
    pub(super) fn list(&mut self, connection: &Connection) {
        for hash in self.hashes(connection) {
            match self.index.entry(hash) {
                std::collections::hash_map::Entry::Vacant(slot) => {
                    slot.insert(Keys::One(connection.key()));
                }
                std::collections::hash_map::Entry::Occupied(mut slot) => match slot.get_mut() {
                    Keys::One(other) if *other == connection.key() => {}
                    Keys::One(other) => {
                        let both = BTreeSet::from([*other, connection.key()]);
                        slot.insert(Keys::Many(both));
                    }
                    Keys::Many(keys) => {
                        keys.insert(connection.key());
                    }
                },
            }
        }
        self.set_status(connection, Status::Open);
        self.measure(connection);
    }

    /// Counts what a connection has attached, after that has changed.
    pub(super) fn measure(&mut self, connection: &Connection) {
        let Some(entry) = self.entries.get_mut(&connection.key()) else { return };
        let size = connection.fixed_size() + connection.committed_state().map_or(0, |s| s.len());
        // At most 16,320 bytes.
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        self.attached = self.attached + size as usize - entry.size as usize;
        entry.size = size;
    }

    pub(super) fn attached(&self) -> usize {
        self.attached
    }

    /// Changes where a connection stands; returns whether the room knows it.
    pub(super) fn set_status(&mut self, connection: &Connection, status: Status) -> bool {
        let Some(entry) = self.entries.get_mut(&connection.key()) else { return false };
        let (was, is) = (entry.status == Status::Open, status == Status::Open);
        entry.status = status;
        if was != is {
            self.listed = if is { self.listed + 1 } else { self.listed - 1 };
            self.snapshot = None;
        }
        true
    }

    pub(super) fn status(&self, connection: &Connection) -> Option<Status> {
        self.entries.get(&connection.key()).map(|entry| entry.status)
    }

    pub(crate) fn is_listed(&self, connection: &Connection) -> bool {
        self.status(connection) == Some(Status::Open)
    }

    /// Forgets a connection; returns where it stood.
    pub(super) fn remove(&mut self, connection: &Connection) -> Option<Status> {
        let status = self.status(connection)?;
        self.set_status(connection, Status::Closing);
        let entry = self.entries.remove(&connection.key());
        self.attached -= entry.map_or(0, |entry| entry.size as usize);
        for hash in self.hashes(connection) {
            let empty = match self.index.get_mut(&hash) {
                Some(Keys::One(key)) => *key == connection.key(),
                Some(Keys::Many(keys)) => {
                    keys.remove(&connection.key());
                    keys.is_empty()
                }
                None => false,
            };
            if empty {
                self.index.remove(&hash);
            }
        }
        Some(status)
    }

    /// Connections of any status: what the limit counts, and what keeps the room from being vacant.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Listed connections.
    pub(crate) fn count(&self) -> usize {
        self.listed
    }

    /// The listed connections, in connection order.
    pub(crate) fn all(&mut self) -> Arc<[Connection]> {
        let entries = &self.entries;
        self.snapshot
            .get_or_insert_with(|| {
                let open = entries.values().filter(|entry| entry.status == Status::Open);
                open.map(|entry| entry.connection.clone()).collect()
            })
            .clone()
    }

    /// The connection of this key, of any status.
    pub(crate) fn get(&self, key: u64) -> Option<&Connection> {
        self.entries.get(&key).map(|entry| &entry.connection)
    }

    /// All that have a socket, and where they stand.
    pub(crate) fn every(&self) -> impl Iterator<Item = (&Connection, Status)> {
        self.entries.values().map(|entry| (&entry.connection, entry.status))
    }

    /// The listed connections with this tag, in connection order.
    pub(crate) fn tagged(&self, tag: &str) -> impl DoubleEndedIterator<Item = &Connection> {
        let (one, many) = match self.index.get(&self.hasher.hash_one(tag)) {
            Some(Keys::One(key)) => (Some(key), None),
            Some(Keys::Many(keys)) => (None, Some(keys)),
            None => (None, None),
        };
        let keys = one.into_iter().chain(many.into_iter().flatten());
        let open = keys
            .filter_map(|key| self.entries.get(key))
            .filter(|entry| entry.status == Status::Open);
        open.map(|entry| &entry.connection).filter(move |connection| connection.has_tag(tag))
    }

    /// The newest listed connection with this id.
    pub(crate) fn by_id(&self, id: &str) -> Option<&Connection> {
        let newest = |c: &&Connection| c.id() == id;
        self.tagged(id)
            .rev()
            .find(newest)
            .and_then(|c| self.entries.get(&c.key()))
            .map(|e| &e.connection)
    }

    /// The newest listed connection with the same id that came before this one.
    pub(super) fn before(&self, connection: &Connection) -> Option<&Connection> {
        let older = |c: &&Connection| c.id() == connection.id() && c.key() < connection.key();
        self.tagged(connection.id()).rev().find(older)
    }

    /// Frees what can be made again.
    pub(super) fn shrink(&mut self) {
        self.snapshot = None;
    }

    fn hashes(&self, connection: &Connection) -> Vec<u64> {
        connection.tags().map(|tag| self.hasher.hash_one(tag)).collect()
    }
}
