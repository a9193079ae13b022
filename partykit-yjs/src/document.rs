use std::{fmt, panic::AssertUnwindSafe};

use partykit_core::{BoxError, Room, StorageError};
use serde::Serialize;
use yrs::{
    Any, ClientID, Doc, GetString, OffsetKind, Options, ReadTxn, StateVector, Transact,
    TransactionMut, Update, WriteTxn,
    types::ToJson,
    updates::{decoder::Decode, encoder::Encode},
};

use crate::{
    edit::{Edit, EditError},
    rows::{self, PIECE, Weight},
    scan, wire,
};

/// The document is written as a snapshot when it has this many changes since the last one, ..
const CHANGES: u32 = 500;
/// .. or when they have more bytes than this and than the snapshot. Whether the document is in memory does
/// not matter, so that a sleep changes nothing of what is stored.
const CHANGE_BYTES: u64 = 64 << 10;
/// The most nested types in a document. yrs deletes them with a call on the stack for each level, and a
/// client may put each into the one before.
const TYPES: u32 = 1 << 18;
/// Stack for one level, with room to spare.
const STACK: usize = 2 << 10;
/// This many levels fit into any thread's stack.
const SHALLOW: u32 = 256;

/// A room's Yjs document, as the server sees it: loaded from storage when it is first asked for, and
/// forgotten with the instance.
///
/// What the server changes is stored and sent to all clients like a change of theirs, in the transaction
/// of the handler.
///
/// ```
/// use partykit_core::{Body, Request, Response, Result, Room};
/// use partykit_yjs::{Document, YServer};
///
/// #[derive(Default)]
/// struct Notes;
///
/// impl YServer for Notes {
///     async fn on_request(
///         &mut self,
///         _: &Room,
///         mut document: Document<'_>,
///         _: Request,
///     ) -> Result<Response> {
///         document.change(|edit| edit.insert_text("note", 0, "Seen by the server.\n")).await?;
///         Ok(Response::new(Body::from(document.text("note").await?)))
///     }
/// }
/// ```
pub struct Document<'a> {
    pub(crate) room: &'a Room,
    pub(crate) book: &'a mut Book,
}

impl Document<'_> {
    /// The text of this name, empty if it was never written. Formatting and embedded objects are left out.
    ///
    /// # Errors
    ///
    /// When the document cannot be read from storage.
    pub async fn text(&mut self, name: &str) -> Result<String, DocumentError> {
        self.look(|txn| {
            let text = txn.get_or_insert_text(name);
            text.get_string(txn)
        })
        .await
    }

    /// The map of this name, as JSON.
    ///
    /// # Errors
    ///
    /// When the document cannot be read from storage.
    pub async fn map(&mut self, name: &str) -> Result<serde_json::Value, DocumentError> {
        self.look(|txn| {
            let map = txn.get_or_insert_map(name);
            json(&map.to_json(txn))
        })
        .await
    }

    /// The array of this name, as JSON.
    ///
    /// # Errors
    ///
    /// When the document cannot be read from storage.
    pub async fn array(&mut self, name: &str) -> Result<serde_json::Value, DocumentError> {
        self.look(|txn| {
            let array = txn.get_or_insert_array(name);
            json(&array.to_json(txn))
        })
        .await
    }

    /// The XML fragment of this name, as text: what ProseMirror and tiptap write.
    ///
    /// # Errors
    ///
    /// When the document cannot be read from storage.
    pub async fn xml(&mut self, name: &str) -> Result<String, DocumentError> {
        self.look(|txn| {
            let xml = txn.get_or_insert_xml_fragment(name);
            xml.get_string(txn)
        })
        .await
    }

    /// Changes the document: all in `change` is one update, stored and sent to all clients.
    ///
    /// # Errors
    ///
    /// When `change` fails: then nothing has changed. When the document cannot be read or stored, or would
    /// become larger than [`YServer::max_document`](crate::YServer::max_document).
    pub async fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Edit<'_>) -> Result<T, EditError>,
    ) -> Result<T, DocumentError> {
        let loaded = self.book.load(self.room).await?;
        let weight = self.book.weight(self.room).await?;
        let changed = on_stack(weight.types(), || {
            let mut edit = Edit::new(loaded.transact_mut());
            let value = change(&mut edit)?;
            Ok::<_, EditError>((value, edit.finish()))
        });
        let (value, update) = changed?;
        if update != wire::EMPTY {
            self.book.store(self.room, &update).await?;
            self.room.broadcast(wire::update(&update)).send();
        }
        self.book.doc = Some(loaded);
        Ok(value)
    }

    /// The whole document, as an update of Yjs's first format: what `Y.encodeStateAsUpdate` gives.
    ///
    /// # Errors
    ///
    /// When the document cannot be read from storage.
    pub async fn export(&mut self) -> Result<Vec<u8>, DocumentError> {
        self.look(|txn| txn.encode_state_as_update_v1(&StateVector::default())).await
    }

    /// Applies an update of Yjs's first format: what `Y.encodeStateAsUpdate` gives. What is new in it is
    /// stored and sent to all clients.
    ///
    /// # Errors
    ///
    /// When the bytes are no update, or the document cannot be read or stored, or would become larger than
    /// [`YServer::max_document`](crate::YServer::max_document).
    pub async fn import(&mut self, update: &[u8]) -> Result<(), DocumentError> {
        if !scan::is_update(update) {
            return Err(DocumentError::NoUpdate);
        }
        let news = self.book.merge(self.room, update).await?;
        if let Some(news) = news {
            self.room.broadcast(wire::update(&news)).send();
        }
        Ok(())
    }

    /// How many bytes are stored of it.
    ///
    /// # Errors
    ///
    /// When the storage fails.
    pub async fn size(&mut self) -> Result<u64, DocumentError> {
        Ok(self.book.weight(self.room).await?.bytes())
    }

    async fn look<T>(
        &mut self,
        look: impl FnOnce(&mut TransactionMut<'_>) -> T,
    ) -> Result<T, DocumentError> {
        let loaded = self.book.load(self.room).await?;
        let types = self.book.weight(self.room).await?.types();
        let seen = on_stack(types, || look(&mut loaded.transact_mut()));
        self.book.doc = Some(loaded);
        Ok(seen)
    }
}

impl fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("is_loaded", &self.book.doc.is_some())
            .finish_non_exhaustive()
    }
}

/// Why a document could not be read, changed or stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// A change was not possible. Nothing has changed.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The bytes are no update of Yjs's first format.
    #[error("the bytes are no Yjs update")]
    NoUpdate,
    /// The user's `on_load` failed.
    #[error("the document could not be loaded: {0}")]
    Load(BoxError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The document would be larger than it may be.
    #[error("a document has at most {max} bytes and {TYPES} nested types")]
    TooLarge {
        /// The limit, in bytes.
        max: u64,
    },
}

/// The document of a room, as far as it is in memory.
pub(crate) struct Book {
    /// Taken while somebody works with it, and given back when that is stored.
    doc: Option<Doc>,
    weight: Option<Weight>,
    max: u64,
}

impl Book {
    pub(crate) fn new(max: usize) -> Self {
        Self { doc: None, weight: None, max: max as u64 }
    }

    /// What is in memory may not be what is stored: it is read again.
    pub(crate) fn forget(&mut self) {
        (self.doc, self.weight) = (None, None);
    }

    pub(crate) async fn weight(&mut self, room: &Room) -> Result<Weight, StorageError> {
        if self.weight.is_none() {
            self.weight = Some(Weight::read(room).await?);
        }
        Ok(self.weight.unwrap_or_default())
    }

    /// Takes the document; give it back when what was done with it is stored.
    async fn load(&mut self, room: &Room) -> Result<Doc, StorageError> {
        if let Some(doc) = self.doc.take() {
            return Ok(doc);
        }
        let types = self.weight(room).await?.types();
        let (snapshot, changes) = rows::read(room).await?;
        let mut updates = Vec::with_capacity(changes.len() + 1);
        if !snapshot.is_empty() {
            updates.push(("yjs:s:", &*snapshot));
        }
        updates.extend(changes.iter().map(|(key, update)| (&**key, &**update)));
        let mut bad = Vec::new();
        loop {
            let doc = new_doc(room);
            let failed = on_stack(types, || apply_all(&doc, &updates));
            let Some(at) = failed else {
                report(room, &bad);
                return Ok(doc);
            };
            // Without it: what a library cannot read must not make the rest unreadable.
            bad.push(updates.remove(at).0.to_owned());
        }
    }

    /// The state vector of what is stored.
    pub(crate) async fn vector(&mut self, room: &Room) -> Result<Vec<u8>, StorageError> {
        let doc = self.load(room).await?;
        let vector = doc.transact().state_vector().encode_v1();
        self.doc = Some(doc);
        Ok(vector)
    }

    /// What somebody with this state vector does not have. `None` if it is no vector.
    pub(crate) async fn missing(
        &mut self,
        room: &Room,
        vector: &[u8],
    ) -> Result<Option<Vec<u8>>, StorageError> {
        let Ok(vector) = StateVector::decode_v1(vector) else { return Ok(None) };
        let doc = self.load(room).await?;
        let update = doc.transact().encode_state_as_update_v1(&vector);
        self.doc = Some(doc);
        Ok(Some(update))
    }

    /// Takes an update as it is: it is stored, and the document need not be loaded for it. `false` if it is
    /// none.
    pub(crate) async fn append(
        &mut self,
        room: &Room,
        update: &[u8],
    ) -> Result<bool, DocumentError> {
        let Ok(decoded) = Update::decode_v1(update) else { return Ok(false) };
        if let Some(doc) = self.doc.take() {
            let types = self.weight(room).await?.types().saturating_add(scan::types(update));
            if !on_stack(types, || apply(&doc, decoded)) {
                return Ok(false);
            }
            self.doc = Some(doc);
        }
        self.store(room, update).await?;
        Ok(true)
    }

    /// Takes an update of which some or all is known: what is new is stored and returned.
    pub(crate) async fn merge(
        &mut self,
        room: &Room,
        update: &[u8],
    ) -> Result<Option<Vec<u8>>, DocumentError> {
        let Ok(decoded) = Update::decode_v1(update) else { return Err(DocumentError::NoUpdate) };
        let doc = self.load(room).await?;
        let types = self.weight(room).await?.types().saturating_add(scan::types(update));
        let news = on_stack(types, || {
            caught(|| {
                let mut txn = doc.transact_mut();
                txn.apply_update(decoded).ok()?;
                txn.commit();
                Some((txn.encode_update_v1(), txn.has_missing_updates()))
            })
        });
        let Some((news, is_waiting)) = news.flatten() else { return Err(DocumentError::NoUpdate) };
        self.doc = Some(doc);
        // A part of it waits for what was said before, and does not show yet.
        let news = if is_waiting { update.to_vec() } else { news };
        if news == wire::EMPTY {
            return Ok(None);
        }
        self.store(room, &news).await?;
        Ok(Some(news))
    }

    /// Stores an update, and all changes as a snapshot where that pays.
    async fn store(&mut self, room: &Room, update: &[u8]) -> Result<(), DocumentError> {
        let mut weight = self.weight(room).await?;
        let types = scan::types(update);
        let bytes = weight.bytes() + update.len() as u64;
        let is_full = bytes > self.max || weight.types().saturating_add(types) > TYPES;
        if is_full || update.len() > PIECE {
            // What was deleted does not come with a snapshot: it may still fit.
            return self.compact(room, Some(update)).await;
        }
        weight.append(room, update, types)?;
        self.weight = Some(weight);
        let much = CHANGE_BYTES.max(weight.snapshot_bytes);
        if weight.changes >= CHANGES || weight.change_bytes > much {
            match self.compact(room, None).await {
                // The changes fit, and their snapshot by a little does not: they stay as they are.
                Err(DocumentError::TooLarge { .. }) => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// The last client has gone: who comes next reads a snapshot, if reading the changes takes longer.
    pub(crate) async fn tidy(&mut self, room: &Room) -> Result<(), DocumentError> {
        let weight = self.weight(room).await?;
        if weight.changes >= 50 || weight.change_bytes > 4096.max(weight.snapshot_bytes / 4) {
            self.compact(room, None).await?;
        }
        Ok(())
    }

    /// Stores the whole document as a snapshot, with an update that is not stored yet.
    async fn compact(&mut self, room: &Room, update: Option<&[u8]>) -> Result<(), DocumentError> {
        let mut weight = self.weight(room).await?;
        let doc = self.load(room).await?;
        if let Some(update) = update {
            let types = weight.types().saturating_add(scan::types(update));
            let decoded = Update::decode_v1(update).map_err(|_| DocumentError::NoUpdate)?;
            if !on_stack(types, || apply(&doc, decoded)) {
                return Err(DocumentError::NoUpdate);
            }
        }
        let snapshot = doc.transact().encode_state_as_update_v1(&StateVector::default());
        let types = scan::types(&snapshot);
        if snapshot.len() as u64 > self.max || types > TYPES {
            return Err(DocumentError::TooLarge { max: self.max });
        }
        weight.replace(room, &snapshot, types)?;
        (self.doc, self.weight) = (Some(doc), Some(weight));
        Ok(())
    }
}

fn new_doc(room: &Room) -> Doc {
    // Not yrs's own number, which a test cannot repeat. 53 bits: a number of JavaScript.
    let client = u64::from_le_bytes(room.random()) >> 11;
    let options = Options {
        // As Yjs counts.
        offset_kind: OffsetKind::Utf16,
        ..Options::with_client_id(ClientID::new(client))
    };
    Doc::with_options(options)
}

/// The first update that cannot be applied.
fn apply_all(doc: &Doc, updates: &[(&str, &[u8])]) -> Option<usize> {
    updates
        .iter()
        .position(|(_, update)| !Update::decode_v1(update).is_ok_and(|update| apply(doc, update)))
}

/// Whether it could be applied. If not, the document is not to be used any more.
fn apply(doc: &Doc, update: Update) -> bool {
    caught(|| doc.transact_mut().apply_update(update).is_ok()).unwrap_or(false)
}

/// yrs has panicked at updates that no client of Yjs makes.
fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(AssertUnwindSafe(call)).ok()
}

/// Runs it where that many types, each in the one before, find their stack.
fn on_stack<T>(types: u32, call: impl FnOnce() -> T) -> T {
    if types <= SHALLOW {
        return call();
    }
    let need = types.min(TYPES) as usize * STACK;
    stacker::maybe_grow(need, need + (1 << 20), call)
}

fn report(room: &Room, bad: &[String]) {
    if !bad.is_empty() {
        let (party, id) = (room.address().party(), room.id());
        tracing::error!(
            party,
            room = id,
            rows = ?bad,
            "parts of the room's Yjs document cannot be read and are left out; the rows stay in storage until the document is compacted"
        );
    }
}

fn json(any: &Any) -> serde_json::Value {
    serde_json::to_value(any).unwrap_or_default()
}

/// What a value of the user's is in a document.
pub(crate) fn any<T: Serialize + ?Sized>(value: &T) -> Result<Any, serde_json::Error> {
    serde_json::from_value(serde_json::to_value(value)?)
}
