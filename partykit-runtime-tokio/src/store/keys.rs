//! How rows of all rooms share one ordered key space.
//!
//! The first byte says what a row is. A room's address follows. The length of each part of the address stands
//! before the part, so no address is the beginning of another.

use std::ops::Bound;

use bytes::Bytes;
use partykit_core::{KeyRange, RoomAddress, RoomId, Timestamp};

/// The longest key of the tree.
pub(super) const MAX: usize = u16::MAX as usize;

/// The row that says how much of the log the tree's files hold.
pub(super) const MARK: &[u8] = b"m";

/// Which generation of its rows a room has: `g`, the room.
const GENERATION: u8 = b'g';
/// A row of a room: `r`, the room, its generation, the row's own key.
const ROW: u8 = b'r';
/// When a room is to be woken: `t`, the room.
const TIME: u8 = b't';
/// The same, ordered by time: `w`, the time, the room.
const WAKE: u8 = b'w';

/// Which rows a room has: those whose keys have this number. It is the number of the commit that cleared the
/// room last, and 0 if no commit did. Rows with a smaller number are deleted, and stay in the tree's files only
/// until these are merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Generation(pub(super) u64);

impl Generation {
    /// What is stored in the row [`generation`].
    pub(super) fn print(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// What [`Generation::print`] made; `None` if it is not such a value.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        Some(Self(u64::from_be_bytes(value.try_into().ok()?)))
    }
}

/// The row that has the [`Generation`] of a room. It does not exist before the room is cleared.
pub(super) fn generation(room: &RoomAddress) -> Vec<u8> {
    let mut key = vec![GENERATION];
    push_room(&mut key, room);
    key
}

/// What all keys of a room's rows begin with. The row's own key follows.
pub(super) fn rows(room: &RoomAddress, generation: Generation) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    key.push(ROW);
    push_room(&mut key, room);
    key.extend(generation.0.to_be_bytes());
    key
}

/// Two prefixes: of the keys of a party's rows, and of its rooms' [`time`] rows. The length of the room's id
/// follows, in two bytes, and then the id. `None` for a name that is too long for a party.
pub(super) fn party(party: &str) -> Option<[Vec<u8>; 2]> {
    let length = u16::try_from(party.len()).ok()?.to_be_bytes();
    let prefixes = [ROW, TIME].map(|kind| [&[kind], &length[..], party.as_bytes()].concat());
    (prefixes[0].len() < MAX).then_some(prefixes)
}

/// What follows [`party`]'s prefixes in the keys of one room.
pub(super) fn id(room: &RoomId) -> Vec<u8> {
    let mut key = Vec::new();
    push_part(&mut key, room);
    key
}

/// Reads what [`id`] made from the beginning of `rest`. Returns the id and its length in bytes. `None` if
/// `rest` begins with something else.
pub(super) fn read_id(rest: &[u8]) -> Option<(RoomId, usize)> {
    let (room, behind) = read_part(rest)?;
    Some((RoomId::new(room).ok()?, rest.len() - behind.len()))
}

/// The row [`generation`] of a room. The room's name is as [`split_row`] gives it.
pub(super) fn generation_of(room: &[u8]) -> Vec<u8> {
    [&[GENERATION], room].concat()
}

/// The range of all rows [`generation`]: its first key, and the key behind its last.
pub(super) fn generations() -> (Vec<u8>, Vec<u8>) {
    (vec![GENERATION], vec![GENERATION + 1])
}

/// The room of a row [`generation`], as [`split_row`] gives it; `None` if it is another row.
pub(super) fn cleared_room(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(&[GENERATION])
}

/// The range of the rows of a room's earlier generations: its first key, and the key behind its last.
pub(super) fn earlier(room: &[u8], generation: Generation) -> (Vec<u8>, Vec<u8>) {
    let from = |generation: u64| [&[ROW], room, &generation.to_be_bytes()].concat();
    (from(0), from(generation.0))
}

/// The name of the room that has a row, and the row's generation; `None` if it is another row.
pub(super) fn split_row(key: &[u8]) -> Option<(&[u8], Generation)> {
    let name = key.strip_prefix(&[ROW])?;
    let mut length = 0;
    for _ in 0..2 {
        let part = name.get(length..)?.first_chunk()?;
        length += 2 + usize::from(u16::from_be_bytes(*part));
    }
    let (room, rest) = name.split_at_checked(length)?;
    Some((room, Generation(u64::from_be_bytes(*rest.first_chunk()?))))
}

pub(super) fn time(room: &RoomAddress) -> Vec<u8> {
    let mut key = vec![TIME];
    push_room(&mut key, room);
    key
}

pub(super) fn wake(at: Timestamp, room: &RoomAddress) -> Vec<u8> {
    let mut key = vec![WAKE];
    key.extend(at.as_millis().to_be_bytes());
    push_room(&mut key, room);
    key
}

/// The range of all wake-ups: its first key, and the key behind its last.
pub(super) fn wakes() -> (Vec<u8>, Vec<u8>) {
    (vec![WAKE], vec![WAKE + 1])
}

/// What [`wake`] made; `None` if it is no such key.
pub(super) fn read_wake(key: &[u8]) -> Option<(Timestamp, RoomAddress)> {
    let (at, rest) = key.strip_prefix(&[WAKE])?.split_first_chunk()?;
    let (party, rest) = read_part(rest)?;
    let (room, rest) = read_part(rest)?;
    let address = RoomAddress::new(party, RoomId::new(room).ok()?);
    rest.is_empty().then_some((Timestamp::from_millis(u64::from_be_bytes(*at)), address))
}

/// The value of a [`time`] row.
pub(super) fn read_time(value: &[u8]) -> Option<Timestamp> {
    Some(Timestamp::from_millis(u64::from_be_bytes(value.try_into().ok()?)))
}

/// A range of the tree's keys.
pub(super) type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The range of the tree for a `range` of a room's rows. `None` if no key can be in it.
pub(super) fn within(prefix: &[u8], range: &KeyRange) -> Option<Range> {
    // A bound that is longer than any key sorts after its own first bytes and before the next key.
    let join = |key: &Bytes| {
        let mut key = [prefix, key].concat();
        let can_be = key.len() <= MAX;
        key.truncate(MAX);
        (key, can_be)
    };
    let start = match &range.0 {
        Bound::Included(key) => match join(key) {
            (key, true) => Bound::Included(key),
            (key, false) => Bound::Excluded(key),
        },
        Bound::Excluded(key) => Bound::Excluded(join(key).0),
        Bound::Unbounded => Bound::Included(prefix.to_vec()),
    };
    let end = match &range.1 {
        Bound::Included(key) => Bound::Included(join(key).0),
        Bound::Excluded(key) => match join(key) {
            (key, true) => Bound::Excluded(key),
            (key, false) => Bound::Included(key),
        },
        Bound::Unbounded => Bound::Excluded(behind(prefix)),
    };
    let is_crossed = match (&start, &end) {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (
            Bound::Included(start) | Bound::Excluded(start),
            Bound::Included(end) | Bound::Excluded(end),
        ) => start >= end,
        _ => false,
    };
    (!is_crossed && prefix.len() <= MAX).then_some((start, end))
}

/// The first key behind all that begin with `prefix`. The prefix begins with one of the bytes above, so there
/// is such a key.
pub(super) fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    while key.last() == Some(&u8::MAX) {
        key.pop();
    }
    if let Some(last) = key.last_mut() {
        *last += 1;
    }
    key
}

/// If a part is too long for its two bytes of length, the key is longer than [`MAX`] and is refused.
fn push_room(key: &mut Vec<u8>, room: &RoomAddress) {
    push_part(key, room.party());
    push_part(key, room.room());
}

fn push_part(key: &mut Vec<u8>, part: &str) {
    let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
    key.extend(length.to_be_bytes());
    key.extend(part.as_bytes());
}

fn read_part(key: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = key.split_first_chunk()?;
    let (part, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((std::str::from_utf8(part).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(party: &str, room: &str) -> RoomAddress {
        RoomAddress::new(party, RoomId::new(room).unwrap())
    }

    #[test]
    fn no_room_is_the_beginning_of_another() {
        let rooms = [
            address("a", "b"),
            address("a", "bc"),
            address("ab", "c"),
            address("a", "b\0"),
            address("a\0", "b"),
            address("", "ab"),
            address("a", &"\u{10FFFF}".repeat(256)),
            address("a", &"b".repeat(1024)),
        ];
        let generations = [0, 1, u64::MAX].map(Generation);
        for one in &rooms {
            for other in rooms.iter().filter(|other| *other != one) {
                for (first, second) in generations.iter().flat_map(|a| generations.map(|b| (*a, b)))
                {
                    let is_beginning = rows(one, first).starts_with(&rows(other, second));
                    assert!(!is_beginning, "{one} {first:?} and {other} {second:?}");
                }
            }
        }
    }

    #[test]
    fn a_prefix_that_ends_in_the_last_bytes_has_an_end() {
        assert_eq!(behind(b"ra\xFF\xFF"), b"rb");
        assert_eq!(behind(b"r\0"), b"r\x01");
    }

    proptest! {
        #[test]
        fn wake_ups_order_by_time_and_come_back(
            times in prop::array::uniform2(any::<u64>()),
            rooms in prop::array::uniform2("\\PC{1,8}"),
            parties in prop::array::uniform2("\\PC{0,4}"),
        ) {
            let made = [0, 1].map(|n| {
                (Timestamp::from_millis(times[n]), address(&parties[n], &rooms[n]))
            });
            let keys = made.each_ref().map(|(at, room)| wake(*at, room));
            for (key, made) in keys.iter().zip(&made) {
                prop_assert_eq!(read_wake(key), Some(made.clone()));
            }
            if times[0] != times[1] {
                prop_assert_eq!(keys[0] < keys[1], times[0] < times[1]);
            }
        }

        #[test]
        fn a_range_holds_the_rows_it_names_and_no_others(
            keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4), 0..8),
            start in prop::collection::vec(any::<u8>(), 0..4),
            end in prop::collection::vec(any::<u8>(), 0..4),
            kinds in prop::array::uniform2(0..3),
        ) {
            let bound = |key: &[u8], kind| match kind {
                0 => Bound::Included(Bytes::copy_from_slice(key)),
                1 => Bound::Excluded(Bytes::copy_from_slice(key)),
                _ => Bound::Unbounded,
            };
            let range = (bound(&start, kinds[0]), bound(&end, kinds[1]));
            let prefix = rows(&address("p", "r"), Generation(u64::MAX));
            let found = within(&prefix, &range);
            for key in keys {
                let full = [&prefix[..], &key].concat();
                let is_in = found.as_ref().is_some_and(|found| {
                    std::ops::RangeBounds::contains(found, &full)
                });
                let key = Bytes::from(key);
                prop_assert_eq!(is_in, std::ops::RangeBounds::contains(&range, &key));
            }
        }
    }
}
