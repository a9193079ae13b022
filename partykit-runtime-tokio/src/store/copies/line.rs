use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The version of the dump format.
pub(super) const VERSION: u32 = 1;

/// A line of a dump: the first, the last, a row, or a wake-up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) partykit_dump: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) commit: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) party: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) room: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<Text>,
    /// Explains a row of the framework to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) means: Option<serde_json::Value>,
    /// In milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wake_up: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<End>,
}

/// The counts in the last line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) rooms: u64,
    pub(super) rows: u64,
    pub(super) wake_ups: u64,
}

/// Bytes: text if they are UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Text {
    Utf8(String),
    Base64 { base64: String },
}

impl Text {
    pub(super) fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Utf8(text.to_owned()),
            Err(_) => Self::Base64 { base64: STANDARD.encode(bytes) },
        }
    }

    pub(super) fn bytes(self) -> Result<Bytes, base64::DecodeError> {
        Ok(match self {
            Self::Utf8(text) => text.into(),
            Self::Base64 { base64 } => STANDARD.decode(base64)?.into(),
        })
    }
}
