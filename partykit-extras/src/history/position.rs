use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The digits of an epoch, five bits each.
const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
/// How many digits an epoch has.
const EPOCH: usize = 8;

/// Where a message stands in its history. A text for clients, who give it back as it is: `4kq0v1u8-17`.
///
/// The first part is the history's epoch: a history that was deleted, or that of another room, has another
/// one. The second part counts the messages.
///
/// ```
/// use partykit_extras::history::Position;
///
/// let position: Position = "4kq0v1u8-17".parse()?;
/// assert_eq!(position.to_string(), "4kq0v1u8-17");
/// assert!("17".parse::<Position>().is_err());
/// # Ok::<(), partykit_extras::history::InvalidPosition>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// 40 bits.
    pub(super) epoch: u64,
    /// The first message has 1.
    pub(super) offset: u64,
}

/// A text that is no [`Position`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the position of a message: it is 8 letters or digits, `-`, and a number")]
#[non_exhaustive]
pub struct InvalidPosition;

impl Position {
    pub(super) const fn first(random: [u8; 5]) -> Self {
        let [a, b, c, d, e] = random;
        Self { epoch: u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]), offset: 1 }
    }

    pub(super) const fn next(self) -> Self {
        Self { offset: self.offset + 1, ..self }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for digit in (0..EPOCH).rev() {
            let bits = (self.epoch >> (5 * digit)) as usize & 31;
            write!(f, "{}", char::from(DIGITS[bits]))?;
        }
        write!(f, "-{}", self.offset)
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (digits, offset) = text.split_once('-').ok_or(InvalidPosition)?;
        let is_number = !offset.is_empty() && offset.bytes().all(|byte| byte.is_ascii_digit());
        if digits.len() != EPOCH || !is_number {
            return Err(InvalidPosition);
        }
        let mut epoch = 0;
        for digit in digits.bytes() {
            let bits = DIGITS.iter().position(|known| *known == digit).ok_or(InvalidPosition)?;
            epoch = epoch << 5 | bits as u64;
        }
        let offset = offset.parse().map_err(|_| InvalidPosition)?;
        Ok(Self { epoch, offset })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_position_is_its_text(random: [u8; 5], offset: u64) {
            let position = Position { offset, ..Position::first(random) };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
            prop_assert!(position.to_string().len() <= 32);
        }

        #[test]
        fn no_text_panics(text in "[0-9a-w-]{0,40}|\\PC{0,12}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.to_string().parse(), Ok(position));
            }
        }
    }

    #[test]
    fn what_is_no_position() {
        for text in [
            "",
            "-",
            "-1",
            "00000000",
            "00000000-",
            "0000000-1",
            "000000000-1",
            "00000000-+1",
            "0000000w-1",
            "0000000V-1",
            "00000000--1",
            "00000000-18446744073709551616",
            "\u{e9}000000-1",
        ] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text}");
        }
    }
}
