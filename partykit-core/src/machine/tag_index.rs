use std::collections::{BTreeSet, HashMap};

/// From the hash of a tag to the connections that have it. Ids are tags.
#[derive(Debug, Default)]
pub(super) struct TagIndex(HashMap<u64, Keys>);

/// The connections of one tag: nearly always one, because every id is a tag.
#[derive(Debug)]
enum Keys {
    One(u64),
    Many(BTreeSet<u64>),
}

impl TagIndex {
    pub(super) fn add(&mut self, hash: u64, key: u64) {
        let keys = self.0.entry(hash).or_insert(Keys::One(key));
        match keys {
            Keys::One(other) if *other == key => {}
            Keys::One(other) => {
                let mut many = BTreeSet::new();
                many.extend([*other, key]);
                *keys = Keys::Many(many);
            }
            Keys::Many(keys) => drop(keys.insert(key)),
        }
    }

    pub(super) fn remove(&mut self, hash: u64, key: u64) {
        let empty = match self.0.get_mut(&hash) {
            Some(Keys::One(known)) => *known == key,
            Some(Keys::Many(keys)) => {
                keys.remove(&key);
                keys.is_empty()
            }
            None => false,
        };
        if empty {
            self.0.remove(&hash);
        }
    }

    /// The connections that may have a tag of this hash, in connection order.
    pub(super) fn keys(&self, hash: u64) -> impl DoubleEndedIterator<Item = u64> {
        let (one, many) = match self.0.get(&hash) {
            Some(Keys::One(key)) => (Some(*key), None),
            Some(Keys::Many(keys)) => (None, Some(keys)),
            None => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }
}
