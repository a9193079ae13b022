use std::fmt;

use partykit_core::{BoxError, Room, StorageError};
use serde::{Serialize, de::DeserializeOwned};
use yrs::{
    Any, GetString, StateVector, Transact, TransactionMut, WriteTxn, types::ToJson,
    updates::encoder::Encode,
};

use crate::{
    book::{Book, TYPES},
    edit::{Edit, EditError},
    scan::{DEPTH, Update},
    subdocs, wire,
};

/// A room's Yjs document, as the server sees it. It is loaded from storage at the first use, and dropped with
/// the instance.
///
/// A change of the server is stored and sent to all clients like a change of a client. It belongs to the
/// handler's transaction.
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
            Ok(text.get_string(txn))
        })
        .await
    }

    /// The map of this name, read as a value of yours.
    ///
    /// # Errors
    ///
    /// When the document cannot be read from storage, values in it are nested deeper than 128 levels, or they
    /// are not of this shape.
    pub async fn map<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, DocumentError> {
        let value = self
            .look(|txn| {
                let map = txn.get_or_insert_map(name);
                json(&map.to_json(txn), 0)
            })
            .await?;
        serde_json::from_value(value).map_err(|error| DocumentError::Shape(error.into()))
    }

    /// The array of this name, read as a value of yours.
    ///
    /// # Errors
    ///
    /// When the document cannot be read from storage, values in it are nested deeper than 128 levels, or they
    /// are not of this shape.
    pub async fn array<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, DocumentError> {
        let value = self
            .look(|txn| {
                let array = txn.get_or_insert_array(name);
                json(&array.to_json(txn), 0)
            })
            .await?;
        serde_json::from_value(value).map_err(|error| DocumentError::Shape(error.into()))
    }

    /// The XML fragment of this name, as text: what ProseMirror and tiptap write.
    ///
    /// # Errors
    ///
    /// When the document cannot be read from storage.
    pub async fn xml(&mut self, name: &str) -> Result<String, DocumentError> {
        self.look(|txn| {
            let xml = txn.get_or_insert_xml_fragment(name);
            Ok(xml.get_string(txn))
        })
        .await
    }

    /// Changes the document. Everything in `change` is one update, which is stored and sent to all clients.
    ///
    /// # Errors
    ///
    /// When `change` fails: then nothing has changed. When the document cannot be read or stored, or would
    /// become larger than [`YServer::max_document`](crate::YServer::max_document).
    pub async fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Edit<'_>) -> Result<T, EditError>,
    ) -> Result<T, DocumentError> {
        let edited = self.book.with(self.room, |doc| {
            let mut edit = Edit::new(doc.transact_mut());
            let value = change(&mut edit)?;
            Ok((value, edit.finish()))
        });
        let (value, bytes) = edited.await?;
        // Only a value of the server itself can be nested too deeply. The document in memory has it already,
        // so drop the document.
        let Some(update) = Update::new(&bytes) else {
            self.book.forget();
            return Err(DocumentError::TooDeep);
        };
        if !update.is_empty() {
            self.book.store(self.room, update).await?;
            self.room.broadcast(wire::update(&bytes)).send();
        }
        Ok(value)
    }

    /// The whole document, as an update of Yjs's first format: what `Y.encodeStateAsUpdate` gives.
    ///
    /// # Errors
    ///
    /// When the document cannot be read from storage.
    pub async fn export(&mut self) -> Result<Vec<u8>, DocumentError> {
        self.book.missing(self.room, &StateVector::default().encode_v1()).await
    }

    /// Applies an update of Yjs's first format: what `Y.encodeStateAsUpdate` gives. What is new in it is
    /// stored and sent to all clients.
    ///
    /// # Errors
    ///
    /// When the bytes are no update, or the document cannot be read or stored, or would become larger than
    /// [`YServer::max_document`](crate::YServer::max_document).
    pub async fn import(&mut self, update: &[u8]) -> Result<(), DocumentError> {
        let update = Update::new(update).ok_or(DocumentError::NoUpdate)?;
        if let Some(news) = self.book.merge(self.room, update).await? {
            self.room.broadcast(wire::update(&news)).send();
        }
        Ok(())
    }

    /// The stored bytes of the document.
    ///
    /// # Errors
    ///
    /// When the storage fails.
    pub async fn size(&mut self) -> Result<u64, DocumentError> {
        Ok(self.book.weight(self.room).await?.bytes())
    }

    async fn look<T>(
        &mut self,
        look: impl FnOnce(&mut TransactionMut<'_>) -> Result<T, DocumentError>,
    ) -> Result<T, DocumentError> {
        self.book.with(self.room, |doc| look(&mut doc.transact_mut())).await
    }
}

impl fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("is_loaded", &self.book.is_loaded())
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
    /// What is stored as the document cannot be read. Nothing of it was changed.
    #[error("the snapshot of the room's Yjs document cannot be read")]
    Unreadable,
    /// What was read is not of the shape that was asked for.
    #[error("the document is not of this shape: {0}")]
    Shape(BoxError),
    /// A value is nested too deeply.
    #[error("a value is nested deeper than {DEPTH} levels")]
    TooDeep,
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

/// A value as JSON. Its depth is limited, because clients choose it, and reading JSON needs stack for each
/// level.
fn json(any: &Any, depth: u32) -> Result<serde_json::Value, DocumentError> {
    if depth > DEPTH {
        return Err(DocumentError::TooDeep);
    }
    Ok(match any {
        Any::Array(values) => {
            values.iter().map(|value| json(value, depth + 1)).collect::<Result<_, _>>()?
        }
        // A document in this one has no value.
        Any::Map(entries) if entries.contains_key(subdocs::KEY) => serde_json::Value::Null,
        Any::Map(entries) => {
            let entries =
                entries.iter().map(|(key, value)| Ok((key.clone(), json(value, depth + 1)?)));
            serde_json::Value::Object(entries.collect::<Result<_, DocumentError>>()?)
        }
        flat => serde_json::to_value(flat).unwrap_or_default(),
    })
}

/// Converts a value of the application for a document.
pub(crate) fn any<T: Serialize + ?Sized>(value: &T) -> Result<Any, serde_json::Error> {
    serde_json::from_value(serde_json::to_value(value)?)
}
