use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use lsm_tree::Slice;

/// A stretch of removed rows is remembered when it is at least this long.
pub(super) const WORTH: u32 = 32;

/// How many gaps are remembered, of all rooms together. A gap takes about 200 bytes.
const GAPS: usize = 1024;

/// How many of the last puts are remembered, of all rooms together. Their keys are in memory anyway.
const RECENT: usize = 4096;

/// Where no rows are, so that scans step over the same removed rows only once: those of a queue, or
/// the wake-ups that have rung. They stay in the tree until its files are merged.
///
/// What must stay true: **in a gap since N, no snapshot with `at >= N` has a row.** (A snapshot sees the
/// changes with numbers smaller than its `at`.) So:
///
/// * A gap is used only by snapshots with `at >= N`.
/// * A change that puts a row into a gap makes the gap smaller, in [`Gaps::put`], *before* the change is
///   visible. So a snapshot that sees the row finds no gap over it.
/// * A reader calls [`Gaps::install`] some time after it has found no row. Meanwhile a change with a number
///   of at least its `at` may have put a row there. There are three cases. The put is among the recent ones:
///   the gap is cut there. The put may be forgotten already: the gap is not remembered. The put comes later:
///   [`Gaps::put`] finds the gap.
///
/// Removing a row makes no gap wrong.
#[derive(Debug, Default)]
pub(super) struct Gaps(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The gaps by their first key. They do not overlap.
    gaps: BTreeMap<Slice, Rest>,
    /// The last puts: the numbers of their changes, in rising order, and their keys.
    recent: VecDeque<(u64, Slice)>,
    /// Puts of changes with smaller numbers may be missing in `recent`.
    forgotten: u64,
}

#[derive(Clone, Debug)]
struct Rest {
    /// The first key behind it.
    end: Slice,
    since: u64,
    /// About how many removed rows it has.
    weight: u32,
}

/// No row from `start` to before `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) start: Slice,
    pub(super) end: Slice,
    /// About how many removed rows it has.
    pub(super) weight: u32,
}

impl Gaps {
    /// Notes that there is a row at this key. Must be called before the put is visible.
    pub(super) fn put(&self, number: u64, key: &Slice) {
        let mut state = self.state();
        state.recent.push_back((number, key.clone()));
        if state.recent.len() > RECENT
            && let Some((number, _)) = state.recent.pop_front()
        {
            state.forgotten = number + 1;
        }
        state.cut(key);
    }

    /// The gap around this key that a snapshot may skip.
    pub(super) fn find(&self, key: &Slice, at: u64) -> Option<Gap> {
        let state = self.state();
        let (start, rest) = state.gaps.range::<Slice, _>(..=key).next_back()?;
        let is_usable = rest.end > *key && rest.since <= at;
        is_usable.then(|| Gap { start: start.clone(), end: rest.end.clone(), weight: rest.weight })
    }

    /// Remembers that a snapshot has found no row in this gap.
    pub(super) fn install(&self, at: u64, gap: Gap) {
        let mut state = self.state();
        if gap.weight < WORTH || at < state.forgotten {
            return;
        }
        let since = state.recent.iter().rev().take_while(|(number, _)| *number >= at);
        let is_within = |key: &&Slice| **key >= gap.start && **key < gap.end;
        let puts: Vec<Slice> = since.map(|(_, key)| key).filter(is_within).cloned().collect();
        state.join(at, gap);
        for key in &puts {
            state.cut(key);
        }
        while state.gaps.len() > GAPS {
            let oldest = state.gaps.iter().min_by_key(|(_, rest)| rest.since);
            let Some(oldest) = oldest.map(|(start, _)| start.clone()) else { return };
            state.gaps.remove(&oldest);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds a gap, joined with those that it touches. The joined gap holds since the latest of their numbers.
    fn join(&mut self, at: u64, gap: Gap) {
        let Gap { mut start, mut end, weight } = gap;
        let (mut since, mut joined) = (at, 0_u32);
        while let Some((other, rest)) = self.gaps.range::<Slice, _>(..=&end).next_back()
            && rest.end >= start
        {
            let other = other.clone();
            let Some(rest) = self.gaps.remove(&other) else { break };
            start = start.min(other);
            end = end.max(rest.end);
            since = since.max(rest.since);
            joined = joined.saturating_add(rest.weight);
        }
        self.gaps.insert(start, Rest { end, since, weight: weight.max(joined) });
    }

    /// Splits the gap around a key into the parts before and behind it. How many of its removed rows each
    /// part has is unknown, so each counts half of them. A part that is too small is forgotten.
    fn cut(&mut self, key: &Slice) {
        let around = self.gaps.range::<Slice, _>(..=key).next_back();
        let Some((start, _)) = around.filter(|(_, rest)| rest.end > *key) else { return };
        let start = start.clone();
        let Some(rest) = self.gaps.remove(&start) else { return };
        let weight = rest.weight / 2;
        if weight < WORTH {
            return;
        }
        if start < *key {
            self.gaps.insert(start, Rest { end: key.clone(), since: rest.since, weight });
        }
        let behind = behind(key);
        if behind < rest.end {
            self.gaps.insert(behind, Rest { weight, ..rest });
        }
    }
}

/// The smallest key after this one.
pub(super) fn behind(key: &[u8]) -> Slice {
    [key, &[0]].concat().into()
}
