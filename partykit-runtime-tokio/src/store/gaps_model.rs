//! The gaps, one small step of readers and of the writer after another; and the same with faults, which
//! has to be found.

use std::collections::BTreeMap;

use lsm_tree::Slice;

use super::{
    gaps::{self, Gap, Gaps},
    model::random,
};

/// What remembers where nothing is.
trait Memo {
    /// Where a reader begins, and what it has to give back when it installs.
    fn begin(&self) -> (u8, u64) {
        (0, 0)
    }
    fn put(&mut self, number: u64, key: u8);
    fn find(&self, key: u8, at: u64) -> Option<u8>;
    /// No row from `start` to before `end`.
    fn install(&mut self, at: u64, ticket: u64, start: u8, end: u8, now: u64);
}

fn slice(key: u8) -> Slice {
    Slice::from([key])
}

/// What is in the way of the gaps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A gap counts from when it is installed.
    SinceNow,
    /// Any scan may use a gap.
    ForAll,
    /// A put makes no gap smaller.
    Uncut,
}

struct RealGaps(Gaps, Fault);

impl Memo for RealGaps {
    fn put(&mut self, number: u64, key: u8) {
        if self.1 != Fault::Uncut {
            self.0.put(number, &slice(key));
        }
    }

    fn find(&self, key: u8, at: u64) -> Option<u8> {
        let at = if self.1 == Fault::ForAll { u64::MAX } else { at };
        let end = self.0.find(&slice(key), at)?.end;
        // A key and a zero is behind the key.
        Some(end[0] + u8::from(end.len() > 1))
    }

    fn install(&mut self, at: u64, _: u64, start: u8, end: u8, now: u64) {
        let at = if self.1 == Fault::SinceNow { now } else { at };
        let gap = Gap { start: slice(start), end: slice(end), weight: gaps::WORTH << 8 };
        self.0.install(at, gap);
    }
}

/// What was there before the gaps: the first key that may be something.
#[derive(Default)]
struct FirstKey {
    key: u8,
    lowered: u64,
}

impl Memo for FirstKey {
    fn begin(&self) -> (u8, u64) {
        (self.key, self.lowered)
    }

    fn put(&mut self, _: u64, key: u8) {
        if key < self.key {
            self.key = key;
            self.lowered += 1;
        }
    }

    fn find(&self, _: u8, _: u64) -> Option<u8> {
        None
    }

    fn install(&mut self, _: u64, ticket: u64, start: u8, end: u8, _: u64) {
        if ticket == self.lowered && start <= self.key {
            self.key = end;
        }
    }
}

const KEYS: u8 = 12;

/// A reader on its way.
struct Reader {
    at: u64,
    ticket: u64,
    begin: u8,
    key: u8,
    found: Vec<u8>,
    /// From where on nothing was found.
    dead: Option<u8>,
    to_install: Option<(u8, u8)>,
}

/// Three readers and a writer, one small step of one of them after another. Says whether a reader missed
/// a row or found one that was not there.
fn is_wrong(memo: &mut dyn Memo, seed: u64) -> bool {
    let mut random = random(seed);
    // The numbers of the changes of each key, and whether they put it.
    let mut rows: BTreeMap<u8, Vec<(u64, bool)>> = BTreeMap::new();
    let mut visible = 1;
    let mut writing: Option<(Vec<(u8, bool)>, usize)> = None;
    let mut readers: [Option<Reader>; 3] = [None, None, None];
    let live = |rows: &BTreeMap<u8, Vec<(u64, bool)>>, key: u8, at: u64| {
        let changes = rows.get(&key)?.iter().rev();
        changes.filter(|(number, _)| *number < at).map(|(_, is_put)| *is_put).next()
    };
    for _ in 0..400 {
        let actor = random.below(4) as usize;
        if actor == 3 {
            match writing.take() {
                None => {
                    let count = 1 + random.below(3);
                    let changes =
                        (0..count).map(|_| (random.below(KEYS.into()) as u8, random.below(3) == 0));
                    writing = Some((changes.collect(), 0));
                }
                // First all that makes gaps smaller, then the rows, then they are visible.
                Some((changes, step)) if step < changes.len() => {
                    let (key, is_put) = changes[step];
                    if is_put {
                        memo.put(visible, key);
                    }
                    rows.entry(key).or_default().push((visible, is_put));
                    writing = Some((changes, step + 1));
                }
                Some(_) => visible += 1,
            }
            continue;
        }
        let Some(reader) = &mut readers[actor] else {
            // What the old way asked, it asked before it looked; the order does not matter to gaps.
            let at = visible;
            let (begin, ticket) = memo.begin();
            let reader = Reader {
                at,
                ticket,
                begin,
                key: begin,
                found: Vec::new(),
                dead: Some(begin),
                to_install: None,
            };
            readers[actor] = Some(reader);
            continue;
        };
        if let Some((start, end)) = reader.to_install.take() {
            memo.install(reader.at, reader.ticket, start, end, visible);
        } else if reader.key < KEYS {
            let key = reader.key;
            reader.key += 1;
            match live(&rows, key, reader.at) {
                Some(true) => {
                    reader.found.push(key);
                    reader.to_install = reader.dead.take().map(|start| (start, key));
                }
                dead => {
                    reader.dead.get_or_insert(key);
                    if dead.is_some()
                        && let Some(end) = memo.find(key, reader.at)
                    {
                        reader.key = end.max(reader.key);
                    }
                }
            }
        } else if let Some(start) = reader.dead.take() {
            reader.to_install = Some((start, KEYS));
        } else {
            let truth = (0..KEYS).filter(|key| live(&rows, *key, reader.at) == Some(true));
            if truth.ne(reader.found.iter().copied()) {
                return true;
            }
            let _ = reader.begin;
            readers[actor] = None;
        }
    }
    false
}

#[test]
fn no_gap_hides_a_row_whoever_looks_when() {
    for seed in 0..4_000 {
        let mut gaps = RealGaps(Gaps::default(), Fault::None);
        assert!(!is_wrong(&mut gaps, seed), "seed {seed}");
    }
}

#[test]
fn the_check_of_gaps_finds_what_is_wrong_with_them() {
    for fault in [Fault::SinceNow, Fault::ForAll, Fault::Uncut] {
        let finds = |seed| is_wrong(&mut RealGaps(Gaps::default(), fault), seed);
        assert!((0..2_000).any(finds), "{}", fault as u8);
    }
    // What was there before hid wake-ups.
    assert!((0..2_000).any(|seed| is_wrong(&mut FirstKey::default(), seed)));
}
