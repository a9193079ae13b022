use std::ops::Bound;

use partykit_core::{RoomAddress, RoomId};

use super::{
    error::Fault,
    keys,
    reading::Read,
    rows::{Rows, Step},
    tree::Snapshot,
};

/// The rooms of a party that have rows or a wake-up, in the order of their keys: shorter ids first.
///
/// Two readers go side by side, one for rows and one for wake-ups. The one for rows skips the rest of a room
/// after its first row, so all rooms cost the same.
pub(super) struct Listing {
    snapshot: Snapshot,
    party: Box<str>,
    rows: Side,
    times: Side,
    limit: usize,
    found: Vec<RoomId>,
}

struct Side {
    /// What the keys begin with. The id follows.
    prefix: Vec<u8>,
    rows: Rows,
    /// The next room, after it was read. `Some(None)` if the party has no more rooms.
    head: Option<Option<Head>>,
}

/// A room, and its id as the keys have it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    id: Vec<u8>,
    room: RoomId,
}

impl Listing {
    /// `None` for a party that can have no rooms.
    pub(super) fn new(
        snapshot: Snapshot,
        party: &str,
        after: Option<&RoomId>,
        limit: usize,
    ) -> Option<Self> {
        let side = |prefix: Vec<u8>| {
            let start = match after {
                // A room's keys all begin with its id, so what is behind them is the next room's.
                Some(room) => keys::behind(&[&prefix[..], &keys::id(room)].concat()),
                None => prefix.clone(),
            };
            let rows = from(&snapshot, &prefix, start);
            Side { prefix, rows, head: None }
        };
        let [rows, times] = keys::party(party)?.map(side);
        Some(Self { party: party.into(), rows, times, limit, found: Vec::new(), snapshot })
    }

    /// Reads at most one row.
    fn read_rows(&mut self) -> Result<(), Fault> {
        let side = &mut self.rows;
        let key = match side.rows.step()? {
            Step::Row(key, _) => key,
            Step::Nothing => return Ok(()),
            Step::End => {
                side.head = Some(None);
                return Ok(());
            }
        };
        let head = side.head(&key)?;
        let Some((_, generation)) = keys::split_row(&key) else { return Err(senseless()) };
        let address = RoomAddress::new(&*self.party, head.room.clone());
        let counts = self.snapshot.generation(&address)?;
        // Rows from before the room was cleared stay until files are merged.
        let next = if generation < counts {
            keys::rows(&address, counts)
        } else {
            let next = keys::behind(&[&side.prefix[..], &head.id].concat());
            side.head = Some(Some(head));
            next
        };
        side.rows = from(&self.snapshot, &side.prefix, next);
        Ok(())
    }

    fn read_times(&mut self) -> Result<(), Fault> {
        match self.times.rows.step()? {
            Step::Row(key, _) => self.times.head = Some(Some(self.times.head(&key)?)),
            Step::Nothing => {}
            Step::End => self.times.head = Some(None),
        }
        Ok(())
    }
}

impl Read for Listing {
    type Rows = Vec<RoomId>;

    fn step(&mut self) -> Result<Option<Self::Rows>, Fault> {
        if self.found.len() == self.limit {
            return Ok(Some(std::mem::take(&mut self.found)));
        }
        if self.rows.head.is_none() {
            self.read_rows()?;
            return Ok(None);
        }
        if self.times.head.is_none() {
            self.read_times()?;
            return Ok(None);
        }
        let heads =
            [&self.rows, &self.times].map(|side| side.head.as_ref().and_then(Option::as_ref));
        let Some(first) = heads.into_iter().flatten().min() else {
            return Ok(Some(std::mem::take(&mut self.found)));
        };
        let room = first.room.clone();
        for side in [&mut self.rows, &mut self.times] {
            side.head.take_if(|head| head.as_ref().is_some_and(|head| head.room == room));
        }
        self.found.push(room);
        Ok(None)
    }
}

impl Side {
    fn head(&self, key: &[u8]) -> Result<Head, Fault> {
        let rest = key.get(self.prefix.len()..).unwrap_or_default();
        let (room, length) = keys::read_id(rest).ok_or_else(senseless)?;
        Ok(Head { id: rest[..length].to_vec(), room })
    }
}

fn from(snapshot: &Snapshot, prefix: &[u8], start: Vec<u8>) -> Rows {
    let end = keys::behind(prefix);
    // The key behind the party's last room can be behind the party's range.
    let mut start = if start > end { end.clone() } else { start };
    start.truncate(keys::MAX);
    snapshot.range((Bound::Included(start), Bound::Excluded(end)), false)
}

fn senseless() -> Fault {
    Fault::damage("a row's key does not name a room")
}
