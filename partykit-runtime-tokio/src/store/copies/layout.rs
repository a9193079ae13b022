use partykit_core::{RoomAddress, RoomId, Timestamp};

use super::super::FORMAT;

/// What a key of the tree means. This reads the layout that `keys` writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    /// How much of the log the tree's files hold.
    Mark,
    /// Which generation of a room's rows counts.
    Generation(RoomAddress),
    /// A row of a room.
    Row { room: RoomAddress, generation: u64, key: &'a [u8] },
    /// When a room is to be woken.
    Time(RoomAddress),
    /// The same, ordered by time.
    Wake(Timestamp, RoomAddress),
}

/// The first byte of each kind of key.
pub(super) const GENERATION: u8 = b'g';
pub(super) const MARK: u8 = b'm';
pub(super) const ROW: u8 = b'r';
pub(super) const TIME: u8 = b't';
pub(super) const WAKE: u8 = b'w';

/// Since format 2, a row's key has the room's generation between the room and the row's own key.
const HAS_GENERATIONS: bool = FORMAT >= 2;

impl<'a> Key<'a> {
    /// `None` if the key has no known form.
    pub(super) fn parse(key: &'a [u8]) -> Option<Self> {
        let (kind, rest) = key.split_first()?;
        let whole = |(room, rest): (RoomAddress, &[u8])| rest.is_empty().then_some(room);
        match *kind {
            MARK => rest.is_empty().then_some(Self::Mark),
            GENERATION => Some(Self::Generation(whole(room(rest)?)?)),
            TIME => Some(Self::Time(whole(room(rest)?)?)),
            WAKE => {
                let (at, rest) = rest.split_first_chunk()?;
                let at = Timestamp::from_millis(u64::from_be_bytes(*at));
                Some(Self::Wake(at, whole(room(rest)?)?))
            }
            ROW => {
                let (room, rest) = room(rest)?;
                let (generation, key) = if HAS_GENERATIONS {
                    let (generation, key) = rest.split_first_chunk()?;
                    (u64::from_be_bytes(*generation), key)
                } else {
                    (0, rest)
                };
                Some(Self::Row { room, generation, key })
            }
            _ => None,
        }
    }
}

/// A number of eight bytes: the value of a generation or of a time.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.try_into().ok()?))
}

/// The prefix of all keys of one kind of a room.
pub(super) fn prefix(kind: u8, room: &RoomAddress) -> Vec<u8> {
    let mut key = vec![kind];
    for part in [room.party(), room.room()] {
        key.extend(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
        key.extend(part.as_bytes());
    }
    key
}

/// Describes a key for people: its room and its row, as far as they can be read.
pub(super) fn describe(key: &[u8]) -> String {
    match Key::parse(key) {
        Some(Key::Row { room, key, .. }) => format!("row `{}` of {room}", key.escape_ascii()),
        Some(Key::Generation(room)) => format!("the generation of {room}"),
        Some(Key::Time(room)) => format!("the wake-up of {room}"),
        Some(Key::Wake(at, room)) => format!("the wake-up of {room} at {} ms", at.as_millis()),
        Some(Key::Mark) => "the mark of the log".to_owned(),
        None => format!("key `{}`", key.escape_ascii()),
    }
}

fn room(key: &[u8]) -> Option<(RoomAddress, &[u8])> {
    let (party, rest) = part(key)?;
    let (room, rest) = part(rest)?;
    Some((RoomAddress::new(party, RoomId::new(room).ok()?), rest))
}

fn part(key: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = key.split_first_chunk()?;
    let (part, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((std::str::from_utf8(part).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::{super::super::keys, *};

    #[test]
    fn keys_are_read_as_they_are_made() {
        let room = RoomAddress::new("p", RoomId::new("r\u{e9}").unwrap());
        assert_eq!(prefix(TIME, &room), keys::time(&room));
        assert_eq!(Key::parse(&keys::time(&room)), Some(Key::Time(room.clone())));
        let at = Timestamp::from_millis(77);
        assert_eq!(Key::parse(&keys::wake(at, &room)), Some(Key::Wake(at, room)));
        assert_eq!(Key::parse(keys::MARK), Some(Key::Mark));
        for other in [&b""[..], b"x", b"mm", b"t\0\x01p\0", b"w\0", b"r\0\x01p\0\0"] {
            assert_eq!(Key::parse(other), None, "{other:?}");
        }
    }
}
