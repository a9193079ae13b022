//! An item and its parts. Each part can only be made within its limits.

use partykit::Room;
use serde::{Deserialize, Serialize};

/// A card on the board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Its id, which begins with when it was made.
    pub id: ItemId,
    /// What it says.
    pub text: Text,
    /// The column that it is in.
    pub column: Column,
    /// Its colour.
    pub color: Color,
    /// Where in the column it is.
    pub place: Place,
}

/// The columns of the board.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
#[allow(missing_docs, reason = "each says it")]
pub enum Column {
    #[default]
    Todo,
    Doing,
    Done,
}

/// The colours of cards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
#[allow(missing_docs, reason = "each says it")]
pub enum Color {
    #[default]
    Yellow,
    Green,
    Blue,
    Pink,
    Gray,
}

/// The id of an item: 12 hexadecimal digits for the milliseconds since 1970, then 8 random digits. So ids are
/// ordered by age. A client can choose an id itself, draw the card at once, and repeat "create" if it does
/// not know whether the first one arrived.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ItemId(String);

impl ItemId {
    /// A new id.
    pub fn new(room: &Room) -> Self {
        let chance = u32::from_le_bytes(room.random());
        Self(format!("{:012x}{chance:08x}", room.now().as_millis()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ItemId {
    type Error = Invalid;

    fn try_from(id: String) -> Result<Self, Invalid> {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match id.len() == 20 && id.bytes().all(is_digit) {
            true => Ok(Self(id)),
            false => Err(Invalid::Id),
        }
    }
}

/// What an item says: 1 to 2,000 bytes that are not only white space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Text(String);

impl Text {
    const MAX: usize = 2_000;
}

impl TryFrom<String> for Text {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        match text.len() <= Self::MAX && !text.trim().is_empty() {
            true => Ok(Self(text)),
            false => Err(Invalid::Text(text.len())),
        }
    }
}

/// The place of an item in its column. The greatest place is on top. It is the digits of a fraction in base
/// 36, and the last digit is not `0`. So there is always a place between two others, and moving a card
/// changes only this card.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Place(String);

impl Place {
    const MAX: usize = 200;

    /// The place of a new item: above all older items.
    pub fn above_older(id: &ItemId) -> Self {
        Self(format!("{}i", id.as_str()))
    }
}

impl TryFrom<String> for Place {
    type Error = Invalid;

    fn try_from(place: String) -> Result<Self, Invalid> {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z');
        let is_place = (1..=Self::MAX).contains(&place.len())
            && place.bytes().all(is_digit)
            && !place.ends_with('0');
        match is_place {
            true => Ok(Self(place)),
            false => Err(Invalid::Place),
        }
    }
}

/// Why a value is not a part of an item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// It is not an [`ItemId`].
    #[error("an id has 20 hexadecimal digits")]
    Id,
    /// It is not a [`Place`].
    #[error("a place has 1 to {max} of the digits 0-9 and a-z, the last one not 0", max = Place::MAX)]
    Place,
    /// It is not a [`Text`]. Has its length in bytes.
    #[error("a text has 1 to {max} bytes that are not only white space, not {0}", max = Text::MAX)]
    Text(usize),
}
