//! The tree beside a model of it.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use lsm_tree::Slice;
use tempfile::TempDir;

use super::{
    collect, keys,
    options::StoreOptions,
    replay::Mark,
    rows::Step,
    tree::{Snapshot, Tree},
};

/// Numbers that are the same in every run.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

pub(super) fn random(seed: u64) -> Random {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    random.below(2);
    random
}

/// A tree, and what has to be in it.
struct World {
    directory: TempDir,
    tree: Arc<Tree>,
    rows: Truth,
    generations: [u64; ROOMS],
    snapshots: Vec<(Snapshot, Truth)>,
    number: u64,
    random: Random,
}

type Truth = BTreeMap<Vec<u8>, Vec<u8>>;

const ROOMS: usize = 3;

pub(super) fn room(n: usize) -> partykit_core::RoomAddress {
    let id = partykit_core::RoomId::new(format!("room {n}")).unwrap();
    partykit_core::RoomAddress::new("main", id)
}

pub(super) fn open(directory: &TempDir) -> Arc<Tree> {
    Tree::open(directory.path(), &StoreOptions::default()).unwrap()
}

pub(super) fn all(
    snapshot: &Snapshot,
    range: keys::Range,
    reverse: bool,
) -> (Vec<(Slice, Slice)>, u64) {
    let mut rows = snapshot.range(range, reverse);
    let mut found = Vec::new();
    loop {
        match rows.step().unwrap() {
            Step::Row(key, value) => found.push((key, value)),
            Step::Nothing => {}
            Step::End => return (found, rows.looked_at),
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            tree: open(&directory),
            directory,
            rows: BTreeMap::new(),
            generations: [0; ROOMS],
            snapshots: Vec::new(),
            number: 0,
            random: random(seed),
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let room_of = self.random.below(ROOMS as u64) as usize;
        let generation = keys::Generation(self.generations[room_of]);
        let row = self.random.below(200) as u8;
        [&keys::rows(&room(room_of), generation)[..], &[row]].concat()
    }

    fn change(&mut self) {
        self.number += 1;
        let mut changes: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        if self.random.below(300) == 0 {
            let cleared = self.random.below(ROOMS as u64) as usize;
            let (start, end) = {
                let prefix =
                    keys::rows(&room(cleared), keys::Generation(self.generations[cleared]));
                let mut end = prefix.clone();
                end.push(u8::MAX);
                (prefix, end)
            };
            self.rows.retain(|key, _| !(*key >= start && *key < end));
            self.generations[cleared] = self.number;
            let generation = keys::Generation(self.number);
            changes.push((keys::generation(&room(cleared)), Some(generation.print().into())));
        }
        // Mostly in a row, so that there are stretches of removed rows.
        let (first, is_put) = (self.key(), self.random.below(2) == 0);
        for n in 0..1 + self.random.below(60) {
            let mut key = first.clone();
            let last = key.len() - 1;
            key[last] = key[last].saturating_add(n as u8).min(200);
            let value = is_put.then(|| vec![self.random.below(256) as u8; 9]);
            match &value {
                Some(value) => self.rows.insert(key.clone(), value.clone()),
                None => self.rows.remove(&key),
            };
            changes.retain(|(other, _)| *other != key);
            changes.push((key, value));
        }
        self.tree.change(changes.iter().map(|(key, value)| (&key[..], value.as_deref())));
    }

    fn check(&mut self) {
        let (snapshot, expected) = match self.random.below(1 + self.snapshots.len() as u64) {
            0 => (self.tree.snapshot(), &self.rows),
            n => {
                let (snapshot, rows) = &self.snapshots[n as usize - 1];
                (snapshot.clone(), rows)
            }
        };
        let prefixes =
            (0..ROOMS).map(|n| keys::rows(&room(n), snapshot.generation(&room(n)).unwrap()));
        let prefixes: Vec<_> = prefixes.collect();
        for prefix in prefixes {
            let mut end = prefix.clone();
            end.push(u8::MAX);
            let truth: Vec<_> = expected.range(prefix.clone()..end.clone()).collect();
            for reverse in [false, true] {
                let range = (Bound::Included(prefix.clone()), Bound::Excluded(end.clone()));
                let (mut found, _) = all(&snapshot, range, reverse);
                if reverse {
                    found.reverse();
                }
                let found = found.iter().map(|(key, value)| (&key[..], &value[..]));
                assert!(found.eq(truth.iter().map(|(key, value)| (&key[..], &value[..]))));
            }
            for (key, value) in truth.iter().take(3) {
                assert_eq!(snapshot.get(key).unwrap().as_deref(), Some(&value[..]));
            }
        }
    }

    fn seal(&mut self) {
        self.tree.seal(Mark { number: self.number, file: 0 });
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..50 => self.change(),
            50..80 => self.check(),
            80..84 => self.seal(),
            84..90 => self.tree.flush().unwrap(),
            90..92 => drop(self.tree.merge_when(1 + self.random.below(4) as u8).unwrap()),
            92 => self.tree.rewrite().unwrap(),
            93 => collect::tidy(&self.tree, &|| false).unwrap(),
            94 => drop(self.tree.forget()),
            95..97 if self.snapshots.len() < 4 => {
                self.snapshots.push((self.tree.snapshot(), self.rows.clone()));
            }
            97 if !self.snapshots.is_empty() => {
                let n = self.random.below(self.snapshots.len() as u64) as usize;
                self.snapshots.swap_remove(n);
            }
            98 => {
                // What is in memory goes with the process; here it is written first.
                self.seal();
                while self.tree.snapshot().view().memories().count() > 1 {
                    self.tree.flush().unwrap();
                }
                self.snapshots.clear();
                self.tree = {
                    let empty = tempfile::tempdir().unwrap();
                    drop(std::mem::replace(&mut self.tree, open(&empty)));
                    open(&self.directory)
                };
                let found = collect::find(&self.tree.files()).unwrap();
                self.tree.to_collect().lock().unwrap().rooms.extend(found);
                assert_eq!(self.tree.mark().unwrap().number, self.number);
            }
            _ => {}
        }
    }
}

/// How many steps: as many as the variable `STORE_MODEL_STEPS` says, or these.
const STEPS: u64 = 3_000;

#[test]
fn the_tree_is_what_its_model_is() {
    let steps = std::env::var("STORE_MODEL_STEPS").ok().and_then(|steps| steps.parse().ok());
    let steps = steps.unwrap_or(STEPS);
    for seed in 1..=4 {
        let mut world = World::new(seed);
        for _ in 0..steps / 4 {
            world.step();
        }
        world.check();
    }
}
