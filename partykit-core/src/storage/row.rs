//! Users' keys and values, and the rows that they are.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{BackendError, StorageError};
use crate::{JsonError, value::limits};

/// Users' keys have this first byte; the framework's own rows have a smaller one.
const USER: u8 = 1;

pub(crate) fn row_key(key: &str) -> Result<Bytes, StorageError> {
    if key.is_empty() { Err(StorageError::InvalidKey(0)) } else { bound(key) }
}

/// Where the next number of [`Storage::append`](crate::Storage::append) is kept: the key of a framework's row.
pub(crate) fn next_key(prefix: &str) -> Result<Bytes, StorageError> {
    if prefix.len() > limits::KEY {
        return Err(StorageError::InvalidKey(prefix.len()));
    }
    Ok([b"\x00next:", prefix.as_bytes()].concat().into())
}

/// The row key of a bound, which may be empty.
pub(crate) fn bound(key: &str) -> Result<Bytes, StorageError> {
    if key.len() > limits::KEY {
        return Err(StorageError::InvalidKey(key.len()));
    }
    Ok([&[USER], key.as_bytes()].concat().into())
}

/// The least key above all keys that begin with `prefix`. There is one: the prefix begins with 0 or [`USER`].
pub(crate) fn successor(prefix: &[u8]) -> Bytes {
    let mut next = prefix.to_vec();
    while next.last() == Some(&u8::MAX) {
        next.pop();
    }
    if let Some(last) = next.last_mut() {
        *last += 1;
    }
    next.into()
}

pub(crate) fn check_count(keys: usize) -> Result<(), StorageError> {
    if keys > limits::KEYS { Err(StorageError::TooManyKeys(keys)) } else { Ok(()) }
}

pub(crate) fn to_json<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<Bytes, StorageError> {
    let json = serde_json::to_vec(value).map_err(|error| json_error(key, error));
    json.map(Bytes::from)
}

pub(crate) fn from_json<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, StorageError> {
    serde_json::from_slice(value).map_err(|error| json_error(key, error))
}

fn json_error(key: &str, error: serde_json::Error) -> StorageError {
    StorageError::Json { key: shown(key), source: JsonError::new(error) }
}

/// The beginning of a key, for an error.
pub(crate) fn shown(key: &str) -> String {
    key.chars().take(64).collect()
}

/// The key of a user's row, and its value.
pub(crate) fn named((key, value): (Bytes, Bytes)) -> Result<(String, Bytes), StorageError> {
    let name = std::str::from_utf8(key.get(1..).unwrap_or_default()).map(ToOwned::to_owned);
    let name = name.map_err(|error| BackendError::Failed(error.into()))?;
    Ok((name, value))
}
