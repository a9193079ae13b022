use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasherDefault, Hasher},
};

/// From the keyed hash of a tag to the connections that have it. Ids are tags.
#[derive(Debug, Default)]
pub(super) struct TagIndex(HashMap<u64, Keys, BuildHasherDefault<Hashed>>);

/// The connections of one tag: nearly always one, because every id is a tag.
#[derive(Debug)]
enum Keys {
    One(u64),
    Many(BTreeSet<u64>),
}

/// What is a keyed hash already needs no other one.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("all keys are numbers");
    }

    fn finish(&self) -> u64 {
        self.0
    }
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
