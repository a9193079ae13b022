use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use partykit_core::{Room, StorageError};
use yrs::{
    ClientID, Doc, OffsetKind, Options, ReadTxn, StateVector, Transact, merge_updates_v1,
    updates::{decoder::Decode, encoder::Encode},
};

use crate::{
    document::DocumentError,
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
    doc: Option<Doc>,
    weight: Option<Weight>,
    /// Changes that cannot be read. A snapshot does not have them, so it leaves their rows aside.
    bad: Vec<(String, Bytes)>,
    max: u64,
    /// Whether something was stored since the last question.
    is_changed: bool,
}

impl Book {
    pub(crate) fn new(max: usize) -> Self {
        Self { doc: None, weight: None, bad: Vec::new(), max: max as u64, is_changed: false }
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
        self.doc.is_some()
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
        let doc = self.load(room).await?;
        let done = on_stack(self.weight(room).await?.types(), || work(&doc))?;
        self.doc = Some(doc);
        Ok(done)
    }

    /// Takes the document. Put it back when the changes are stored.
    async fn load(&mut self, room: &Room) -> Result<Doc, DocumentError> {
        if let Some(doc) = self.doc.take() {
            return Ok(doc);
        }
        let types = self.weight(room).await?.types();
        let (snapshot, mut changes) = rows::read(room).await?;
        loop {
            let doc = new_doc(room);
            if !snapshot.is_empty() && !on_stack(types, || apply(&doc, &snapshot)) {
                // An empty document instead would soon be stored as the snapshot.
                return Err(DocumentError::Unreadable);
            }
            let bad = on_stack(types, || changes.iter().position(|(_, row)| !apply(&doc, row)));
            let Some(at) = bad else { return Ok(doc) };
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
        self.with(room, |doc| Ok(beyond(&doc.transact(), &vector))).await
    }

    /// Stores an update as it is. The document need not be loaded for it.
    pub(crate) async fn append(
        &mut self,
        room: &Room,
        update: Update<'_>,
    ) -> Result<(), DocumentError> {
        if self.doc.is_some() {
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
        let decoded = update.decode().ok_or(DocumentError::NoUpdate)?;
        let doc = self.load(room).await?;
        let types = self.weight(room).await?.types().saturating_add(update.types);
        let merged = on_stack(types, || {
            caught(|| {
                let mut txn = doc.transact_mut();
                txn.apply_update(decoded).ok()?;
                txn.commit();
                Some((txn.encode_update_v1(), txn.has_missing_updates()))
            })
        });
        let (news, is_waiting) = merged.flatten().ok_or(DocumentError::NoUpdate)?;
        self.doc = Some(doc);
        // A part of the update waits for an earlier one that has not arrived, so `news` does not have it.
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
        let doc = self.load(room).await?;
        let types = self.weight(room).await?.types().saturating_add(update.types);
        if !on_stack(types, || apply(&doc, update.bytes)) {
            return Err(DocumentError::NoUpdate);
        }
        self.doc = Some(doc);
        Ok(())
    }

    /// Stores the whole document as a snapshot.
    async fn compact(&mut self, room: &Room) -> Result<(), DocumentError> {
        let mut weight = self.weight(room).await?;
        let doc = self.load(room).await?;
        let snapshot = beyond(&doc.transact(), &StateVector::default());
        let scanned = Update::new(&snapshot).ok_or(DocumentError::TooDeep)?;
        if snapshot.len() as u64 > self.max || scanned.types > TYPES {
            return Err(DocumentError::TooLarge { max: self.max });
        }
        rows::set_aside(room, &std::mem::take(&mut self.bad))?;
        weight.replace(room, &snapshot, scanned.types)?;
        (self.doc, self.weight) = (Some(doc), Some(weight));
        Ok(())
    }
}

fn new_doc(room: &Room) -> Doc {
    // The room's random number, because a test can repeat it. 53 bits, so that JavaScript can hold it.
    let client = u64::from_le_bytes(room.random()) >> 11;
    let options = Options {
        // Yjs counts in UTF-16 units.
        offset_kind: OffsetKind::Utf16,
        ..Options::with_client_id(ClientID::new(client))
    };
    Doc::with_options(options)
}

/// What a document has beyond a state vector, and the changes that wait for others. A change that no client of
/// Yjs makes may wait in a form that yrs does not read back. Then the answer is without the changes that wait.
/// (`encode_state_as_update_v1` panics there, and each join would fail.)
pub(crate) fn beyond(txn: &impl ReadTxn, vector: &StateVector) -> Vec<u8> {
    let shown = txn.encode_diff_v1(vector);
    let store = txn.store();
    let waiting = caught(|| {
        let changes = store.pending_update().map(|pending| pending.update.encode_v1());
        // An update of no client, and what is deleted.
        let deleted = store.pending_ds().map(|deleted| [vec![0], deleted.encode_v1()].concat());
        [changes, deleted].into_iter().flatten().collect::<Vec<_>>()
    });
    match waiting {
        Some(waiting) if !waiting.is_empty() => {
            let all = [shown.clone()].into_iter().chain(waiting);
            caught(|| merge_updates_v1(all).ok()).flatten().unwrap_or(shown)
        }
        _ => shown,
    }
}

/// Applies an update. Returns whether it worked. If not, the document must not be used any more.
fn apply(doc: &Doc, update: &[u8]) -> bool {
    let Ok(update) = yrs::Update::decode_v1(update) else { return false };
    caught(|| doc.transact_mut().apply_update(update).is_ok()).unwrap_or(false)
}

/// Calls yrs, which may panic at forged updates.
fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(AssertUnwindSafe(call)).ok()
}

/// Runs `call` with enough stack for this many nested types.
fn on_stack<T>(types: u32, call: impl FnOnce() -> T) -> T {
    if types <= SHALLOW {
        return call();
    }
    let need = types.min(TYPES) as usize * STACK;
    stacker::maybe_grow(need, need + (1 << 20), call)
}
