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
    rooms: BTreeMap<RoomAddress, Vec<Tried>>,
    tried: Option<usize>,
    refused: usize,
    has_ended: bool,
}

/// A commit that was tried.
#[derive(Clone, Copy, Debug)]
struct Tried {
    number: usize,
    /// `false` if it was refused, or not answered: it may be stored or not.
    is_stored: bool,
}

impl History {
    pub(super) fn hear(&mut self, line: &str) -> Result<(), BoxError> {
        match line.split_once(' ') {
            Some(("try", number)) => {
                let number = number.parse()?;
                self.tried = Some(number);
                let tried = Tried { number, is_stored: false };
                self.rooms.entry(step(number).0).or_default().push(tried);
            }
            None if line == "ok" => {
                let number = self.tried.take().ok_or("an answer to nothing")?;
                let tried = self.rooms.get_mut(&step(number).0).and_then(|room| room.last_mut());
                tried.ok_or("an answer to nothing")?.is_stored = true;
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
                let tried = self.rooms.get(&address).map_or(&[][..], Vec::as_slice);
                if !can_have(tried, &found) {
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
}

/// Whether a room can have this after these commits, of which some may be stored or not.
///
/// Goes back from the last one, and takes each that agrees with what is still to be explained. To leave out one that
/// agrees would never help: then more is left to be explained by the same commits before it.
fn can_have(tried: &[Tried], (rows, wake): &Room) -> bool {
    let mut explained = BTreeSet::new();
    let mut is_wake_explained = false;
    for Tried { number, is_stored } in tried.iter().rev() {
        let (_, batch) = step(*number);
        let next = batch.wake_up.or(batch.clear.then_some(WakeUp::Never));
        let next = next.map(|wake_up| match wake_up {
            WakeUp::At(at) => Some(at.as_millis()),
            WakeUp::Never => None,
        });
        let mut open = rows.keys().filter(|key| !explained.contains(*key));
        let agrees = (is_wake_explained || next.is_none_or(|next| next == *wake))
            && batch
                .writes
                .iter()
                .all(|(key, value)| explained.contains(key) || rows.get(key) == value.as_ref())
            && (!batch.clear || open.all(|key| batch.writes.contains_key(key)));
        if !agrees {
            if *is_stored {
                return false;
            }
            continue;
        }
        if batch.clear {
            return true;
        }
        is_wake_explained |= next.is_some();
        explained.extend(batch.writes.into_keys());
    }
    (is_wake_explained || wake.is_none()) && rows.keys().all(|key| explained.contains(key))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// The commits of the first room, in order.
    fn numbers(count: usize) -> Vec<usize> {
        (0..).filter(|number| step(*number).0 == step(0).0).take(count).collect()
    }

    #[test]
    fn what_was_refused_may_be_there_and_what_was_acknowledged_has_to() {
        let mut history = History::default();
        for line in ["try 0", "ok", "try 3", "no", "try 6", "ok"] {
            history.hear(line).unwrap();
        }
        let tried = &history.rooms[&step(0).0];
        let with_all = with(&with(&with(&Room::default(), 0), 3), 6);
        let without = with(&with(&Room::default(), 0), 6);
        assert!(can_have(tried, &with_all) && can_have(tried, &without));
        assert!(!can_have(tried, &with(&Room::default(), 6)));
    }

    #[test]
    fn it_says_the_same_as_a_list_of_all_states_does() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..300 {
            let tried: Vec<_> = numbers(10)
                .into_iter()
                .map(|number| Tried { number, is_stored: random.bool() })
                .collect();
            let mut states = BTreeSet::from([Room::default()]);
            for Tried { number, is_stored } in &tried {
                let after: BTreeSet<_> = states.iter().map(|room| with(room, *number)).collect();
                states = if *is_stored { after } else { &states | &after };
            }
            assert!(states.iter().all(|room| can_have(&tried, room)));
            // A history in which other commits are left out, has other states.
            let other = numbers(10).into_iter().filter(|_| random.u8(..) > 60);
            let other = other.fold(Room::default(), |room, number| with(&room, number));
            assert_eq!(can_have(&tried, &other), states.contains(&other));
        }
    }

    #[test]
    fn a_long_history_of_refused_commits_is_judged_at_once() {
        let tried: Vec<_> =
            numbers(10_000).into_iter().map(|number| Tried { number, is_stored: false }).collect();
        let last = with(&Room::default(), tried[9_999].number);
        assert!(can_have(&tried, &last));
    }
}
