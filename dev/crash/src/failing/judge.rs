use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    path::Path,
    time::Instant,
};

use hyper::body::Bytes;
use partykit::{
    BoxError, RoomAddress,
    storage::{Backend, DiskBackend, Durability, WakeUp},
};

use super::life::step;

/// What a room has: its rows, and when it is to be woken.
type Room = (BTreeMap<Bytes, Bytes>, Option<u64>);

/// What a life has said, and so what each room can have.
#[derive(Debug, Default)]
pub(super) struct History {
    /// All states that agree with what was said.
    rooms: BTreeMap<RoomAddress, BTreeSet<Room>>,
    tried: Option<usize>,
    refused: usize,
    has_ended: bool,
}

impl History {
    pub(super) fn hear(&mut self, line: &str) -> Result<(), BoxError> {
        match line.split_once(' ') {
            Some(("try", number)) => {
                // Until it is answered, it may be stored or not.
                let number = number.parse()?;
                self.tried = Some(number);
                let before = self.room(number).clone();
                let after = before.iter().map(|room| with(room, number));
                let all = after.chain(before.iter().cloned()).collect();
                *self.room(number) = all;
            }
            None if line == "ok" => {
                let number = self.tried.take().ok_or("an answer to nothing")?;
                let stored = number.to_string();
                self.room(number)
                    .retain(|(rows, _)| rows.get(&b"first"[..]).is_some_and(|row| *row == stored));
            }
            None if line == "no" => {
                self.refused += 1;
                self.tried = None;
            }
            None if line == "end" => self.has_ended = true,
            Some(("closed", _)) => {}
            _ => return Err(format!("a life does not say {line}").into()),
        }
        Ok(())
    }

    pub(super) fn refused(&self) -> usize {
        self.refused
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Opens the store, without failures, twice, and looks whether it has what it may have.
    pub(super) async fn judge(&self, data: &Path) -> Result<(), BoxError> {
        let begin = Instant::now();
        for _ in 0..2 {
            let store = DiskBackend::open(data, Durability::Durable)
                .map_err(|error| format!("it opens no more: {error}"))?;
            let wakes = store.wake_ups(None, 100).await?;
            for number in 0..3 {
                let (address, _) = step(number);
                let all = (Bound::Unbounded, Bound::Unbounded);
                let rows = store.scan(&address, &all, false, usize::MAX).await?;
                let wake = wakes.iter().find(|(_, room)| *room == address);
                let found = (rows.into_iter().collect(), wake.map(|(at, _)| at.as_millis()));
                let may_be = match self.rooms.get(&address) {
                    Some(states) => states.contains(&found),
                    None => found == Room::default(),
                };
                if !may_be {
                    let first = found.0.get(&b"first"[..]);
                    return Err(format!("room {address} has what it cannot have: {first:?}").into());
                }
            }
            store.close().await;
        }
        match begin.elapsed().as_secs() {
            0..60 => Ok(()),
            seconds => Err(format!("to open and read it took {seconds} s").into()),
        }
    }

    fn room(&mut self, number: usize) -> &mut BTreeSet<Room> {
        let (address, _) = step(number);
        let states = self.rooms.entry(address).or_default();
        if states.is_empty() {
            states.insert(Room::default());
        }
        states
    }
}

fn with((rows, wake): &Room, number: usize) -> Room {
    let (_, batch) = step(number);
    let mut rows = if batch.clear { BTreeMap::new() } else { rows.clone() };
    for (key, value) in batch.writes {
        match value {
            Some(value) => drop(rows.insert(key, value)),
            None => drop(rows.remove(&key)),
        }
    }
    let next = batch.wake_up.or(batch.clear.then_some(WakeUp::Never));
    let wake = match next {
        Some(WakeUp::At(at)) => Some(at.as_millis()),
        Some(WakeUp::Never) => None,
        None => *wake,
    };
    (rows, wake)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_may_be_there_and_what_was_acknowledged_has_to() {
        let mut history = History::default();
        for line in ["try 0", "ok", "try 3", "no", "try 6", "ok"] {
            history.hear(line).unwrap();
        }
        let states = &history.rooms[&step(0).0];
        assert_eq!(states.len(), 2);
        let with_all = with(&with(&with(&Room::default(), 0), 3), 6);
        let without = with(&with(&Room::default(), 0), 6);
        assert!(states.contains(&with_all) && states.contains(&without));
        assert!(!states.contains(&with(&Room::default(), 6)));
    }
}
