use bytes::Bytes;
use partykit_core::{RoomAddress, Timestamp};

use super::{
    super::error::Fault,
    Finding, Selection,
    layout::{self, GENERATION, Key, ROW, TIME},
    merge::{Found, Hole, Merge},
    view::{View, table_name},
};

/// The rooms of a store, one after another, each with its wake-up and then its rows.
///
/// Three readers go side by side: generations, rows and times have the same order of rooms.
#[derive(Debug)]
pub(super) struct Rooms<'a> {
    generations: Side<'a>,
    rows: Side<'a>,
    times: Side<'a>,
    room: Option<Room>,
    selection: &'a Selection,
    is_doubtful: bool,
    /// Whether uncertain rows are wanted too.
    wants_doubtful: bool,
    /// Rows that cannot be read.
    pub(super) findings: Vec<Finding>,
    /// How many rows are deleted, because their room was cleared later.
    pub(super) dead: u64,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Item {
    Room {
        address: RoomAddress,
        wake_up: Option<Timestamp>,
    },
    /// A row of the last room. Its key is the room's own.
    Row {
        key: Bytes,
        value: Bytes,
    },
    /// The last room has a row here that may be out of date, or may have been removed.
    Doubtful,
}

#[derive(Debug)]
struct Room {
    address: RoomAddress,
    /// The prefix of all of its rows' keys.
    prefix: Vec<u8>,
    generation: u64,
    /// Whether the generation is certain.
    is_certain: bool,
    /// Whether an [`Item::Doubtful`] has to be returned for the room.
    is_doubtful: bool,
}

/// A reader, and its next row.
#[derive(Debug)]
struct Side<'a> {
    merge: Merge<'a>,
    next: Option<Found>,
}

impl<'a> Rooms<'a> {
    pub(super) fn new(view: &'a View, selection: &'a Selection) -> Result<Self, Fault> {
        let side = |kind| {
            let (start, end) = range(kind, selection);
            let mut merge = view.rows(&start, Some(&end))?;
            let next = merge.next().map_err(Fault::io("read"))?;
            Ok::<_, Fault>(Side { merge, next })
        };
        Ok(Self {
            generations: side(GENERATION)?,
            rows: side(ROW)?,
            times: side(TIME)?,
            room: None,
            selection,
            is_doubtful: view.is_doubtful,
            wants_doubtful: false,
            findings: Vec::new(),
            dead: 0,
        })
    }

    /// Sets whether uncertain rows are returned too, besides [`Item::Doubtful`].
    pub(super) fn with_doubtful(mut self, wants_doubtful: bool) -> Self {
        self.wants_doubtful = wants_doubtful;
        self
    }

    pub(super) fn next(&mut self) -> Result<Option<Item>, Fault> {
        loop {
            if let Some(room) = &mut self.room {
                if std::mem::take(&mut room.is_doubtful) {
                    return Ok(Some(Item::Doubtful));
                }
                if let Some(found) = self.rows.take_if(|key| key.starts_with(&room.prefix))? {
                    match self.row(found) {
                        Some(item) => return Ok(Some(item)),
                        None => continue,
                    }
                }
                self.room = None;
            }
            match self.begin()? {
                None => return Ok(None),
                Some(Some(item)) => return Ok(Some(item)),
                Some(None) => {}
            }
        }
    }

    /// The holes in everything that was read so far.
    pub(super) fn holes(&self) -> impl Iterator<Item = &Hole> {
        [&self.generations, &self.rows, &self.times].into_iter().flat_map(|side| &side.merge.holes)
    }

    /// Whether a part of a room's rows may be missing. Correct only after all rows of the room were read.
    pub(super) fn is_incomplete(&self, room: &RoomAddress) -> bool {
        let start = layout::prefix(ROW, room);
        let end = behind(&start);
        self.rows.merge.holes.iter().any(|hole| hole.touches(&start, &end))
    }

    /// How many bytes of files were read for the rows.
    pub(super) fn read(&self) -> u64 {
        self.rows.merge.read
    }

    /// Goes to the next room. `Some(None)` if the next entry is not a room.
    fn begin(&mut self) -> Result<Option<Option<Item>>, Fault> {
        let address = |side: &Side<'_>| {
            let found = side.next.as_ref()?;
            Some(match Key::parse(&found.key) {
                Some(Key::Row { room, .. } | Key::Time(room)) => Ok(room),
                _ => Err(found.key.clone()),
            })
        };
        for (side, key) in [(ROW, address(&self.rows)), (TIME, address(&self.times))] {
            if let Some(Err(key)) = key {
                let side = if side == ROW { &mut self.rows } else { &mut self.times };
                side.take()?;
                let what = format!("it has a key that names nothing: {}", layout::describe(&key));
                self.findings.push(Finding::new("tree", None, what));
                return Ok(Some(None));
            }
        }
        let order = |room: &RoomAddress| layout::prefix(ROW, room);
        let of_row = address(&self.rows).and_then(Result::ok);
        let of_time = address(&self.times).and_then(Result::ok);
        let room = match (of_row, of_time) {
            (None, None) => return Ok(None),
            (Some(room), None) | (None, Some(room)) => room,
            (Some(a), Some(b)) => {
                if order(&a) <= order(&b) {
                    a
                } else {
                    b
                }
            }
        };
        let (generation, is_certain) = self.generation(&room)?;
        let (wake_up, has_time) = self.time(&room)?;
        let prefix = order(&room);
        let is_doubtful = !(is_certain && has_time);
        self.room =
            Some(Room { address: room.clone(), prefix, generation, is_certain, is_doubtful });
        if !self.selection.has(&room) {
            return Ok(Some(None));
        }
        Ok(Some(Some(Item::Room { address: room, wake_up })))
    }

    /// Which generation of the room's rows counts, and whether that is certain.
    fn generation(&mut self, room: &RoomAddress) -> Result<(u64, bool), Fault> {
        let key = layout::prefix(GENERATION, room);
        while self.generations.take_if(|next| next < &key[..])?.is_some() {}
        match self.generations.take_if(|next| next == key)? {
            Some(found) => match layout::number(&found.value) {
                Some(generation) => Ok((generation, found.is_certain && !self.is_doubtful)),
                None => {
                    self.senseless(&key);
                    Ok((0, false))
                }
            },
            None => Ok((0, self.generations.is_certain(&key) && !self.is_doubtful)),
        }
    }

    /// When the room is to be woken, and whether that is certain.
    fn time(&mut self, room: &RoomAddress) -> Result<(Option<Timestamp>, bool), Fault> {
        let key = layout::prefix(TIME, room);
        match self.times.take_if(|next| next == key)? {
            Some(found) => match layout::number(&found.value) {
                Some(at) => {
                    let is_certain = found.is_certain && !self.is_doubtful;
                    let is_wanted = is_certain || self.wants_doubtful;
                    Ok((is_wanted.then(|| Timestamp::from_millis(at)), is_certain))
                }
                None => {
                    self.senseless(&key);
                    Ok((None, false))
                }
            },
            None => Ok((None, self.times.is_certain(&key) && !self.is_doubtful)),
        }
    }

    fn row(&mut self, found: Found) -> Option<Item> {
        let room = self.room.as_mut()?;
        let Some(Key::Row { generation, key, .. }) = Key::parse(&found.key) else {
            self.senseless(&found.key);
            return None;
        };
        if generation > room.generation && room.is_certain {
            let what = format!(
                "{} has a row of generation {generation}, and generation {} is the newest",
                room.address, room.generation
            );
            self.findings.push(Finding::new("tree", None, what));
            return None;
        }
        // Generations only grow, so this row is deleted.
        if generation < room.generation {
            self.dead += 1;
            return None;
        }
        let is_certain = found.is_certain && room.is_certain && !self.is_doubtful;
        let key = found.key.slice_ref(key);
        room.is_doubtful |= !is_certain;
        (is_certain || self.wants_doubtful).then_some(Item::Row { key, value: found.value })
    }

    fn senseless(&mut self, key: &[u8]) {
        let what = format!("it has a row without sense: {}", layout::describe(key));
        self.findings.push(Finding::new("tree", None, what));
    }
}

impl Side<'_> {
    fn take(&mut self) -> Result<Option<Found>, Fault> {
        let next = self.merge.next().map_err(Fault::io("read"))?;
        Ok(std::mem::replace(&mut self.next, next))
    }

    fn take_if(&mut self, is_it: impl FnOnce(&[u8]) -> bool) -> Result<Option<Found>, Fault> {
        match &self.next {
            Some(next) if is_it(&next.key) => self.take(),
            _ => Ok(None),
        }
    }

    /// Whether it is certain that this key does not exist. The reader has passed it.
    fn is_certain(&self, key: &[u8]) -> bool {
        !self.merge.holes.iter().any(|hole| hole.has(key))
    }
}

impl Hole {
    /// The hole as a line for people.
    pub(super) fn finding(&self) -> Finding {
        use std::ops::Bound;
        let key = |key: &Bound<Bytes>| match key {
            Bound::Included(key) | Bound::Excluded(key) => Some(layout::describe(key)),
            Bound::Unbounded => None,
        };
        let keys = match (key(&self.from), key(&self.to)) {
            (Some(from), Some(to)) => format!("what it has between {from} and {to}"),
            (Some(from), None) => format!("what it has after {from}"),
            (None, Some(to)) => format!("what it has up to {to}"),
            (None, None) => "all that it has".to_owned(),
        };
        let is = if self.at.is_some() { "not as it was written" } else { "missing" };
        Finding::new(table_name(self.table), self.at, format!("it is {is}: {keys} is lost"))
    }
}

/// The keys of one kind that a selection can have.
fn range(kind: u8, selection: &Selection) -> (Vec<u8>, Vec<u8>) {
    let start = match selection {
        Selection::All => vec![kind],
        Selection::Party(party) => {
            let mut key = vec![kind];
            key.extend(u16::try_from(party.len()).unwrap_or(u16::MAX).to_be_bytes());
            key.extend(party.as_bytes());
            key
        }
        Selection::Room(room) => layout::prefix(kind, room),
    };
    let end = behind(&start);
    (start, end)
}

/// The first key behind all that begin with `prefix`. The prefix begins with a letter, so there is such a
/// key.
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
