use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasherDefault, Hasher},
};

/// What waits of one connection, or of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// What each connection has of the messages that wait.
///
/// Often one client speaks at a time. So one share has a place of its own, and the map is made for the second.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// A connection and its share. Free while the share has no event.
    one: (u64, Share),
    /// The others. Those without any event have no entry.
    others: HashMap<u64, Share, BuildHasherDefault<KeyHasher>>,
}

impl Shares {
    /// `None` if nothing of this connection waits.
    pub(super) fn get(&self, connection: u64) -> Option<Share> {
        let (known, share) = self.one;
        if known == connection && share.events > 0 {
            return Some(share);
        }
        self.others.get(&connection).copied()
    }

    /// A message of this size waits from now on.
    pub(super) fn add(&mut self, connection: u64, size: usize) {
        let (known, one) = &mut self.one;
        if one.events == 0 && !self.others.contains_key(&connection) {
            *known = connection;
        }
        // The known one is never among the others, not even while its share is free.
        let is_one = *known == connection;
        let share = if is_one { one } else { self.others.entry(connection).or_default() };
        share.events += 1;
        share.bytes += size;
    }

    /// A message of this size waits no more.
    pub(super) fn subtract(&mut self, connection: u64, size: usize) {
        let (known, one) = &mut self.one;
        if *known == connection && one.events > 0 {
            one.events -= 1;
            one.bytes -= size;
        } else if let Entry::Occupied(mut other) = self.others.entry(connection) {
            let share = other.get_mut();
            share.events -= 1;
            share.bytes -= size;
            if share.events == 0 {
                other.remove();
            }
        }
    }

    /// Gives back the memory that a busy time took.
    pub(super) fn shrink(&mut self) {
        if self.others.is_empty() {
            self.others = HashMap::default();
        }
    }
}

/// Hashes the keys of connections. The room gives these numbers one after another, so no client chooses them.
#[derive(Clone, Copy, Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, key: u64) {
        // An odd number of 64 bits, as far from a pattern as the golden ratio is.
        self.0 = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// No matter who speaks first, and who is done first.
        #[test]
        fn each_connection_has_what_it_added(
            steps in proptest::collection::vec((0..4_u64, 1..100_usize, any::<bool>()), 0..60),
        ) {
            let mut shares = Shares::default();
            let mut model = BTreeMap::<u64, Vec<usize>>::new();
            for (who, size, adds) in steps {
                let own = model.entry(who).or_default();
                if adds {
                    own.push(size);
                    shares.add(who, size);
                } else if let Some(size) = own.pop() {
                    shares.subtract(who, size);
                } else {
                    shares.subtract(who, size);
                }
                for (who, own) in &model {
                    let share = Share { events: own.len(), bytes: own.iter().sum() };
                    let expected = Some(share).filter(|share| share.events > 0);
                    prop_assert_eq!(shares.get(*who), expected);
                }
            }
            for (who, own) in model {
                own.into_iter().for_each(|size| shares.subtract(who, size));
            }
            prop_assert!(shares.others.is_empty(), "it remembers those who are done");
        }
    }
}
