use bytes::Bytes;
use partykit_core::{Room, StorageError};
use yrs::{
    Doc, ReadTxn, StateVector, Transact,
    updates::{decoder::Decode, encoder::Encode},
};

use crate::{
    document::DocumentError,
    replica::{Merged, Replica},
    rows::{self, PIECE, Weight},
    scan::Update,
};

/// The document is stored as a snapshot when it has this many changes since the last snapshot.
const CHANGES: u32 = 500;
/// It is also stored as a snapshot when these changes have more bytes than this and than the snapshot. This
/// does not depend on what is in memory, so a sleep does not change what is stored.
const CHANGE_BYTES: u64 = 64 << 10;
/// The most nested types in a document. yrs deletes them with a call on the stack for each level, and a
/// client may put each into the one before.
pub(crate) const TYPES: u32 = 1 << 18;
/// The stack for one level, with a reserve.
const STACK: usize = 2 << 10;
/// This many levels fit into any thread's stack.
const SHALLOW: u32 = 256;

/// The document of a room, as far as it is in memory.
pub(crate) struct Book {
    /// `None` while the document is in use. It is put back when the work is stored.
    replica: Option<Replica>,
    weight: Option<Weight>,
    /// Changes that cannot be read. A snapshot does not have them, so it leaves their rows aside.
    bad: Vec<(String, Bytes)>,
    max: u64,
    /// Whether something was stored since the last question.
    is_changed: bool,
}

impl Book {
    pub(crate) fn new(max: usize) -> Self {
        Self { replica: None, weight: None, bad: Vec::new(), max: max as u64, is_changed: false }
    }

    /// Drops the document in memory, because it may differ from what is stored. It is read again.
    pub(crate) fn forget(&mut self) {
        *self = Self { max: self.max, ..Self::new(0) };
    }

    /// Whether something was stored since the last time this was asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.replica.is_some()
    }

    pub(crate) async fn weight(&mut self, room: &Room) -> Result<Weight, StorageError> {
        if self.weight.is_none() {
            self.weight = Some(Weight::read(room).await?);
        }
        Ok(self.weight.unwrap_or_default())
    }

    /// Gives the document to `work`, with enough stack. The caller has to store what `work` changes;
    /// otherwise the document in memory is dropped.
    pub(crate) async fn with<T>(
        &mut self,
        room: &Room,
        work: impl FnOnce(&Doc) -> Result<T, DocumentError>,
    ) -> Result<T, DocumentError> {
        self.with_replica(room, |replica| work(&replica.doc)).await
    }

    async fn with_replica<T>(
        &mut self,
        room: &Room,
        work: impl FnOnce(&Replica) -> Result<T, DocumentError>,
    ) -> Result<T, DocumentError> {
        let replica = self.load(room).await?;
        let done = on_stack(self.weight(room).await?.types(), || work(&replica))?;
        self.replica = Some(replica);
        Ok(done)
    }

    /// Takes the document. Put it back when the changes are stored.
    async fn load(&mut self, room: &Room) -> Result<Replica, DocumentError> {
        if let Some(replica) = self.replica.take() {
            return Ok(replica);
        }
        let types = self.weight(room).await?.types();
        let (snapshot, mut changes) = rows::read(room).await?;
        loop {
            let mut replica = Replica::new(client(room));
            if !snapshot.is_empty() && !on_stack(types, || apply(&mut replica, &snapshot)) {
                // An empty document instead would soon be stored as the snapshot.
                return Err(DocumentError::Unreadable);
            }
            let bad =
                on_stack(types, || changes.iter().position(|(_, row)| !apply(&mut replica, row)));
            let Some(at) = bad else { return Ok(replica) };
            // Without this change, the others can be read.
            let (key, row) = changes.remove(at);
            let (party, id) = (room.address().party(), room.id());
            tracing::error!(
                party,
                room = id,
                key,
                "a change of the room's Yjs document cannot be read, and is left out"
            );
            self.bad.push((key, row));
        }
    }

    /// The state vector of what is stored.
    pub(crate) async fn vector(&mut self, room: &Room) -> Result<Vec<u8>, DocumentError> {
        self.with(room, |doc| Ok(doc.transact().state_vector().encode_v1())).await
    }

    /// The update that a client with this state vector lacks.
    pub(crate) async fn missing(
        &mut self,
        room: &Room,
        vector: &[u8],
    ) -> Result<Vec<u8>, DocumentError> {
        let vector = StateVector::decode_v1(vector).map_err(|_| DocumentError::NoUpdate)?;
        self.with_replica(room, |replica| Ok(replica.beyond(&vector))).await
    }

    /// Stores an update as it is. The document need not be loaded for it.
    pub(crate) async fn append(
        &mut self,
        room: &Room,
        update: Update<'_>,
    ) -> Result<(), DocumentError> {
        if self.replica.is_some() {
            self.apply(room, update).await?;
        } else if update.decode().is_none() {
            return Err(DocumentError::NoUpdate);
        }
        self.store(room, update).await
    }

    /// Takes an update that may be known in part. Stores and returns the new part.
    pub(crate) async fn merge(
        &mut self,
        room: &Room,
        update: Update<'_>,
    ) -> Result<Option<Vec<u8>>, DocumentError> {
        update.decode().ok_or(DocumentError::NoUpdate)?;
        let mut replica = self.load(room).await?;
        let types = self.weight(room).await?.types().saturating_add(update.types);
        let merged = on_stack(types, || replica.merge(update));
        let Merged { news, is_waiting } = merged.ok_or(DocumentError::NoUpdate)?;
        self.replica = Some(replica);
        let news = if is_waiting { update.bytes.to_vec() } else { news };
        let new = Update::new(&news).ok_or(DocumentError::TooDeep)?;
        if new.is_empty() {
            return Ok(None);
        }
        self.store(room, new).await?;
        Ok(Some(news))
    }

    /// Stores an update that the document in memory has, and all changes as a snapshot where that pays.
    pub(crate) async fn store(
        &mut self,
        room: &Room,
        update: Update<'_>,
    ) -> Result<(), DocumentError> {
        self.is_changed = true;
        let mut weight = self.weight(room).await?;
        let bytes = weight.bytes() + update.bytes.len() as u64;
        let is_full = bytes > self.max || weight.types().saturating_add(update.types) > TYPES;
        if is_full || update.bytes.len() > PIECE {
            // A snapshot does not have deleted content, so the document may still fit.
            self.apply(room, update).await?;
            return self.compact(room).await;
        }
        weight.append(room, update.bytes, update.types)?;
        self.weight = Some(weight);
        if weight.changes >= CHANGES
            || weight.change_bytes > CHANGE_BYTES.max(weight.snapshot_bytes)
        {
            match self.compact(room).await {
                // The changes fit, but their snapshot is slightly too large. So the changes stay.
                Err(DocumentError::TooLarge { .. }) => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// Called when the last client has gone. Stores a snapshot if reading the changes would take longer for
    /// the next client.
    pub(crate) async fn tidy(&mut self, room: &Room) -> Result<(), DocumentError> {
        let weight = self.weight(room).await?;
        if weight.changes >= 50 || weight.change_bytes > 4096.max(weight.snapshot_bytes / 4) {
            self.compact(room).await?;
        }
        Ok(())
    }

    /// Applies an update, which does nothing if the document has it.
    async fn apply(&mut self, room: &Room, update: Update<'_>) -> Result<(), DocumentError> {
        let mut replica = self.load(room).await?;
        let types = self.weight(room).await?.types().saturating_add(update.types);
        if !on_stack(types, || replica.apply(update)) {
            return Err(DocumentError::NoUpdate);
        }
        self.replica = Some(replica);
        Ok(())
    }

    /// Stores the whole document as a snapshot.
    async fn compact(&mut self, room: &Room) -> Result<(), DocumentError> {
        let mut weight = self.weight(room).await?;
        let replica = self.load(room).await?;
        let (snapshot, is_less) = replica.snapshot();
        let scanned = Update::new(&snapshot).ok_or(DocumentError::TooDeep)?;
        if snapshot.len() as u64 > self.max || scanned.types > TYPES {
            return Err(DocumentError::TooLarge { max: self.max });
        }
        rows::set_aside(room, &std::mem::take(&mut self.bad))?;
        weight.replace(room, &snapshot, scanned.types)?;
        // What is stored is read again for the next use, so that memory does not keep what was deleted.
        self.replica = (!is_less).then_some(replica);
        self.weight = Some(weight);
        Ok(())
    }
}

/// The client that the server is, for its own changes.
fn client(room: &Room) -> u64 {
    // The room's random number, because a test can repeat it. 53 bits, so that JavaScript can hold it.
    u64::from_le_bytes(room.random()) >> 11
}

/// Applies what is stored. Returns whether it worked. If not, the replica must not be used any more.
fn apply(replica: &mut Replica, stored: &[u8]) -> bool {
    Update::new(stored).is_some_and(|update| replica.apply(update))
}

/// Runs `call` with enough stack for this many nested types.
pub(crate) fn on_stack<T>(types: u32, call: impl FnOnce() -> T) -> T {
    if types <= SHALLOW {
        return call();
    }
    let need = types.min(TYPES) as usize * STACK;
    stacker::maybe_grow(need, need + (1 << 20), call)
}
