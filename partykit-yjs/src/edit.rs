use std::fmt;

use partykit_core::BoxError;
use serde::Serialize;
use yrs::{Array, GetString, Map, Text, TransactionMut, WriteTxn};

use crate::document::any;

/// A change of a document by the server: see [`Document::change`](crate::Document::change).
///
/// Positions and lengths count as JavaScript counts: in UTF-16 code units.
///
/// ```
/// use partykit_yjs::{Edit, EditError};
///
/// fn sign(edit: &mut Edit<'_>) -> Result<(), EditError> {
///     let end = edit.text_len("letter");
///     edit.insert_text("letter", end, "\nYours, the server")?;
///     edit.set("about", "signed", &true)
/// }
/// # let _ = sign;
/// ```
pub struct Edit<'a> {
    txn: TransactionMut<'a>,
}

impl<'a> Edit<'a> {
    pub(crate) fn new(txn: TransactionMut<'a>) -> Self {
        Self { txn }
    }

    /// The change, as an update.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.txn.commit();
        self.txn.encode_update_v1()
    }

    /// The text of this name, as it is by now.
    pub fn text(&mut self, name: &str) -> String {
        let text = self.txn.get_or_insert_text(name);
        text.get_string(&self.txn)
    }

    /// The length of a text.
    pub fn text_len(&mut self, name: &str) -> u32 {
        let text = self.txn.get_or_insert_text(name);
        text.len(&self.txn)
    }

    /// Inserts into a text.
    ///
    /// # Errors
    ///
    /// When `at` is behind the end of the text.
    pub fn insert_text(&mut self, name: &str, at: u32, content: &str) -> Result<(), EditError> {
        let text = self.txn.get_or_insert_text(name);
        within(at, 0, text.len(&self.txn))?;
        text.insert(&mut self.txn, at, content);
        Ok(())
    }

    /// Removes a part of a text.
    ///
    /// # Errors
    ///
    /// When the part does not lie in the text.
    pub fn remove_text(&mut self, name: &str, at: u32, length: u32) -> Result<(), EditError> {
        let text = self.txn.get_or_insert_text(name);
        within(at, length, text.len(&self.txn))?;
        text.remove_range(&mut self.txn, at, length);
        Ok(())
    }

    /// Replaces a text. The equal parts at its beginning and end stay, and so do the cursors in them.
    pub fn set_text(&mut self, name: &str, content: &str) {
        let old = self.text(name);
        let equal = |(a, b): &(char, char)| a == b;
        let first = old.chars().zip(content.chars()).take_while(equal);
        let first: usize = first.map(|(char, _)| char.len_utf8()).sum();
        let (old, new) = (&old[first..], &content[first..]);
        let last = old.chars().rev().zip(new.chars().rev()).take_while(equal);
        let last: usize = last.map(|(char, _)| char.len_utf8()).sum();
        let (old, new) = (&old[..old.len() - last], &new[..new.len() - last]);
        let text = self.txn.get_or_insert_text(name);
        let at = units(&content[..first]);
        if !old.is_empty() {
            text.remove_range(&mut self.txn, at, units(old));
        }
        if !new.is_empty() {
            text.insert(&mut self.txn, at, new);
        }
    }

    /// Sets an entry of a map.
    ///
    /// # Errors
    ///
    /// When the value has no JSON form.
    pub fn set<T: Serialize + ?Sized>(
        &mut self,
        map: &str,
        key: &str,
        value: &T,
    ) -> Result<(), EditError> {
        let value = any(value).map_err(|error| EditError::Json(error.into()))?;
        let map = self.txn.get_or_insert_map(map);
        map.insert(&mut self.txn, key, value);
        Ok(())
    }

    /// Removes an entry of a map, if there is one.
    pub fn remove(&mut self, map: &str, key: &str) {
        let map = self.txn.get_or_insert_map(map);
        map.remove(&mut self.txn, key);
    }

    /// The length of an array.
    pub fn array_len(&mut self, name: &str) -> u32 {
        let array = self.txn.get_or_insert_array(name);
        array.len(&self.txn)
    }

    /// Inserts into an array.
    ///
    /// # Errors
    ///
    /// When `at` is behind the end of the array, or the value has no JSON form.
    pub fn insert<T: Serialize + ?Sized>(
        &mut self,
        array: &str,
        at: u32,
        value: &T,
    ) -> Result<(), EditError> {
        let value = any(value).map_err(|error| EditError::Json(error.into()))?;
        let array = self.txn.get_or_insert_array(array);
        within(at, 0, array.len(&self.txn))?;
        array.insert(&mut self.txn, at, value);
        Ok(())
    }

    /// Removes a part of an array.
    ///
    /// # Errors
    ///
    /// When the part does not lie in the array.
    pub fn remove_range(&mut self, array: &str, at: u32, length: u32) -> Result<(), EditError> {
        let array = self.txn.get_or_insert_array(array);
        within(at, length, array.len(&self.txn))?;
        array.remove_range(&mut self.txn, at, length);
        Ok(())
    }
}

impl fmt::Debug for Edit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edit").finish_non_exhaustive()
    }
}

/// Why a change of a document was not possible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The value has no JSON form.
    #[error("the value has no JSON form: {0}")]
    Json(BoxError),
    /// The position lies behind the end.
    #[error("position {at} lies behind the end, which is at {len}")]
    OutOfBounds {
        /// The position, or the end of the part.
        at: u64,
        /// The length of the text or array.
        len: u32,
    },
}

fn within(at: u32, length: u32, len: u32) -> Result<(), EditError> {
    let at = u64::from(at) + u64::from(length);
    if at <= u64::from(len) { Ok(()) } else { Err(EditError::OutOfBounds { at, len }) }
}

fn units(text: &str) -> u32 {
    text.encode_utf16().count() as u32
}
