use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    mem,
    sync::{Arc, LazyLock, Weak},
};

use bytes::Bytes;

use super::{records::Records, tag_index::TagIndex};
use crate::{
    Connection,
    connection::{
        Owner,
        peer::Peer,
        record::{Record, Status},
    },
};

/// Clients choose ids, so the hashes must not be foreseen.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// After this many questions for an id since the room woke, an index pays.
const QUESTIONS: u32 = 8;

/// Which connections a room has, in the order in which they came. Survives every sleep as [`Records`].
///
/// A handle is made when code asks for it: what is said to all, or counted, needs none.
pub(crate) struct Roster {
    records: Records,
    /// What the handles are given.
    room: Weak<dyn Owner>,
    /// Made at the first question for a tag, or after a few for an id.
    index: Option<TagIndex>,
    questions: u32,
    /// A cached list of all listed connections. `None` after a change.
    peers: Option<Arc<[Peer]>>,
    /// The same, as handles.
    handles: Option<Arc<[Connection]>>,
}

impl Roster {
    /// Of a room that wakes.
    pub(super) fn new(records: Records, room: Weak<dyn Owner>) -> Self {
        Self { records, room, index: None, questions: 0, peers: None, handles: None }
    }

    /// The room sleeps: what can be made again goes. Leaves the roster empty.
    pub(super) fn rest(&mut self) -> Records {
        (self.index, self.peers, self.handles) = (None, None, None);
        self.records.rest();
        mem::take(&mut self.records)
    }

    /// The key of the next connection.
    pub(crate) fn next_key(&mut self) -> u64 {
        self.records.next_key()
    }

    /// What the handles of its connections are given.
    pub(crate) fn room(&self) -> &Weak<dyn Owner> {
        &self.room
    }

    /// For the handles.
    pub(crate) fn records(&mut self) -> &mut Records {
        &mut self.records
    }

    /// Takes a connection in that is not listed yet.
    pub(super) fn insert(&mut self, connection: Connection) {
        let hash = hash(connection.id());
        self.records.insert(Record::new(connection, hash));
    }

    /// Lists a connection whose tags are known now.
    pub(super) fn list(&mut self, connection: &Connection) {
        let key = connection.key();
        if let Some(index) = &mut self.index {
            connection.tags().for_each(|tag| index.add(hash(tag), key));
        }
        self.set_status(key, Status::Open);
        self.records.count(key, size_of(connection));
    }

    /// Sets a committed state and returns the one before.
    pub(super) fn commit_state(
        &mut self,
        connection: &Connection,
        state: Option<Bytes>,
    ) -> Option<Bytes> {
        let after = state.as_ref().map_or(0, Bytes::len);
        let before = connection.commit_state(state);
        self.records.resize(connection.key(), before.as_ref().map_or(0, Bytes::len), after);
        before
    }

    /// What is attached to all connections, in bytes.
    pub(super) fn attached(&self) -> usize {
        self.records.attached()
    }

    /// Changes where a connection stands; returns whether the room knows it.
    pub(super) fn set_status(&mut self, key: u64, status: Status) -> bool {
        let changed = self.records.set_status(key, status);
        if changed == Some(true) {
            (self.peers, self.handles) = (None, None);
        }
        changed.is_some()
    }

    pub(super) fn status(&self, key: u64) -> Option<Status> {
        self.records.get(key).map(Record::status)
    }

    /// Forgets a connection; returns its handle, and where it stood.
    pub(super) fn remove(&mut self, key: u64) -> Option<(Connection, Status)> {
        let connection = self.get(key)?;
        let status = self.status(key)?;
        self.set_status(key, Status::Closing);
        if let Some(index) = &mut self.index {
            connection.tags().for_each(|tag| index.remove(hash(tag), key));
        }
        self.records.remove(key, size_of(&connection));
        Some((connection, status))
    }

    /// Connections of any status: what the limit counts, and what keeps the room from being vacant.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Listed connections.
    pub(crate) fn count(&self) -> usize {
        self.records.listed()
    }

    /// The connection of this key, of any status.
    pub(crate) fn get(&mut self, key: u64) -> Option<Connection> {
        self.records.handle(key, &self.room)
    }

    /// The same, for what is said to it.
    pub(crate) fn peer(&self, key: u64) -> Option<Peer> {
        self.records.get(key).and_then(Record::peer)
    }

    /// The listed connections, in connection order.
    pub(crate) fn all(&mut self) -> Arc<[Connection]> {
        let (records, room) = (&mut self.records, &self.room);
        self.handles.get_or_insert_with(|| records.handles(room).collect()).clone()
    }

    /// The same, for what is said to them.
    pub(crate) fn peers(&mut self) -> Arc<[Peer]> {
        let records = &self.records;
        self.peers.get_or_insert_with(|| records.open().filter_map(Record::peer).collect()).clone()
    }

    /// The listed connections with this tag, in connection order.
    pub(crate) fn tagged(&mut self, tag: &str) -> Vec<Connection> {
        let keys = self.keys_of_tag(tag);
        keys.into_iter().filter_map(|key| self.get(key)).collect()
    }

    /// The same, for what is said to them.
    pub(crate) fn tagged_peers(&mut self, tag: &str) -> Vec<Peer> {
        let keys = self.keys_of_tag(tag);
        keys.into_iter().filter_map(|key| self.peer(key)).collect()
    }

    /// The newest listed connection with this id.
    pub(crate) fn by_id(&mut self, id: &str) -> Option<Connection> {
        let newest = self.newest_of_id(id, u64::MAX)?;
        self.get(newest)
    }

    /// The listed connections with this id, in connection order.
    pub(crate) fn of_id(&mut self, id: &str) -> Vec<Peer> {
        let keys = self.keys_of_id(id);
        keys.into_iter().filter_map(|key| self.peer(key)).collect()
    }

    /// The newest listed connection with the same id that came before this one.
    pub(super) fn before(&mut self, connection: &Connection) -> Option<Peer> {
        let older = self.newest_of_id(connection.id(), connection.key())?;
        self.peer(older)
    }

    fn keys_of_tag(&mut self, tag: &str) -> Vec<u64> {
        let (records, hash) = (&self.records, hash(tag));
        let keys = self.index.get_or_insert_with(|| index(records)).keys(hash);
        let has = |key: &u64| {
            let record = records.get(*key);
            record.is_some_and(|it| it.status() == Status::Open && it.has_tag(tag))
        };
        keys.filter(has).collect()
    }

    fn keys_of_id(&mut self, id: &str) -> Vec<u64> {
        let mut keys = Vec::new();
        self.with_keys_of_id(id, |key| keys.push(key));
        keys
    }

    /// The newest listed connection with this id whose key is below `end`.
    fn newest_of_id(&mut self, id: &str, end: u64) -> Option<u64> {
        let mut newest = None;
        self.with_keys_of_id(id, |key| newest = Some(key).filter(|key| *key < end).or(newest));
        newest
    }

    /// Calls `see` with the keys of the listed connections with this id, in connection order.
    fn with_keys_of_id(&mut self, id: &str, see: impl FnMut(u64)) {
        self.questions = self.questions.saturating_add(1);
        let (records, hash) = (&self.records, hash(id));
        if self.index.is_none() && self.questions <= QUESTIONS {
            let same = records.open().filter(|it| it.may_have_id(hash) && it.has_id(id));
            return same.map(Record::key).for_each(see);
        }
        let keys = self.index.get_or_insert_with(|| index(records)).keys(hash);
        let has = |key: &u64| {
            let record = records.get(*key);
            record.is_some_and(|it| it.status() == Status::Open && it.has_id(id))
        };
        keys.filter(has).for_each(see);
    }
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roster").field("records", &self.records).finish_non_exhaustive()
    }
}

/// The keyed hash of a tag.
pub(super) fn hash(tag: &str) -> u64 {
    HASHER.hash_one(tag)
}

fn index(records: &Records) -> TagIndex {
    let mut index = TagIndex::default();
    for record in records.all().filter(|record| record.was_listed()) {
        record.tags(|tags| tags.for_each(|tag| index.add(hash(tag), record.key())));
    }
    index
}

/// What is attached to a connection, in bytes.
fn size_of(connection: &Connection) -> usize {
    connection.fixed_size() + connection.committed_state().map_or(0, |state| state.len())
}
