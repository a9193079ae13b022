use std::{ops::Bound, sync::Arc};

use lsm_tree::Slice;

use super::{
    error::Fault,
    files::{Bounds, Cursor},
    gaps::{self, Gap},
    guard::guarded,
    memory::{Memory, Row},
    tree::Snapshot,
};

/// One step looks at no more keys than this.
const STEP: usize = 32;

/// The rows of a range in order or in reverse order, from memory and files together. They are found in small
/// steps.
pub(super) struct Rows {
    sources: Vec<Source>,
    /// The range that is still to be read.
    bounds: Bounds,
    reverse: bool,
    stretch: Option<Stretch>,
    #[cfg(test)]
    pub(super) looked_at: u64,
    // The last field, because the sources read from it.
    snapshot: Snapshot,
}

/// The result of one step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Row(Slice, Slice),
    /// Nothing yet.
    Nothing,
    End,
}

/// One source of rows: a memory or a run of files.
struct Source {
    from: From,
    /// The next row, once it was read. `Some(None)` at the end.
    head: Option<Option<(Slice, Row)>>,
}

enum From {
    Memory(Arc<Memory>),
    Files(Cursor),
}

/// The removed rows that were skipped since the last row.
struct Stretch {
    first: Slice,
    last: Slice,
    /// How many removed rows there are, including those in known gaps.
    weight: u32,
    /// How many of them are in no known gap.
    unknown: u32,
}

impl Rows {
    pub(super) fn new(snapshot: Snapshot, bounds: Bounds, reverse: bool) -> Self {
        let mut rows = Self {
            sources: Vec::new(),
            bounds,
            reverse,
            stretch: None,
            #[cfg(test)]
            looked_at: 0,
            snapshot,
        };
        rows.seek();
        rows
    }

    /// Looks for the next row, but only at a limited number of keys.
    pub(super) fn step(&mut self) -> Result<Step, Fault> {
        guarded(|| self.merge())
    }

    fn merge(&mut self) -> lsm_tree::Result<Step> {
        for _ in 0..STEP {
            let Some((key, row)) = self.next()? else {
                self.end_stretch();
                return Ok(Step::End);
            };
            #[cfg(test)]
            {
                self.looked_at += 1;
            }
            match row {
                Row::Live(value) => {
                    self.end_stretch();
                    return Ok(Step::Row(key, value));
                }
                Row::Dead => self.skip(&key),
                Row::Unseen => {}
            }
        }
        Ok(Step::Nothing)
    }

    /// The next key of all sources, with the row of the newest source that has the key.
    fn next(&mut self) -> lsm_tree::Result<Option<(Slice, Row)>> {
        let (at, reverse) = (self.snapshot.at(), self.reverse);
        let mut found: Option<(Slice, Row)> = None;
        for source in &mut self.sources {
            let head = source.head(&self.bounds, at, reverse)?;
            let Some((key, row)) = head else { continue };
            let is_next = match &found {
                None => true,
                Some((first, _)) if key == first => {
                    // Sources come in order, the newest first.
                    if let Some((_, known @ Row::Unseen)) = &mut found {
                        *known = row.clone();
                    }
                    false
                }
                Some((first, _)) => (key < first) != reverse,
            };
            if is_next {
                found = Some((key.clone(), row.clone()));
            }
        }
        let Some((key, row)) = found else { return Ok(None) };
        for source in &mut self.sources {
            if matches!(&source.head, Some(Some((head, _))) if *head == key) {
                source.head = None;
            }
        }
        self.pass(key.clone());
        Ok(Some((key, row)))
    }

    /// Makes the range begin behind a key; in reverse order, end before it.
    fn pass(&mut self, key: Slice) {
        let bound = if self.reverse { &mut self.bounds.1 } else { &mut self.bounds.0 };
        *bound = Bound::Excluded(key);
    }

    fn skip(&mut self, key: &Slice) {
        let gap = self.snapshot.gaps().find(key, self.snapshot.at());
        let unknown = u32::from(gap.is_none());
        let gap = gap.unwrap_or_else(|| Gap { start: key.clone(), end: key.clone(), weight: 1 });
        let is_known = unknown == 0;
        if is_known {
            if self.reverse {
                self.bounds.1 = Bound::Excluded(gap.start.clone());
            } else {
                self.bounds.0 = Bound::Included(gap.end.clone());
            }
            self.seek();
        }
        let end = if is_known { gap.end } else { gaps::behind(key) };
        let stretch = self.stretch.get_or_insert_with(|| Stretch {
            first: gap.start.clone(),
            last: end.clone(),
            weight: 0,
            unknown: 0,
        });
        stretch.weight = stretch.weight.saturating_add(gap.weight);
        stretch.unknown += unknown;
        if self.reverse {
            stretch.first = gap.start;
        } else {
            stretch.last = end;
        }
    }

    fn end_stretch(&mut self) {
        let Some(Stretch { first, last, weight, unknown }) = self.stretch.take() else { return };
        if unknown >= gaps::WORTH {
            let gap = Gap { start: first, end: last, weight };
            self.snapshot.gaps().install(self.snapshot.at(), gap);
        }
    }

    /// Begins to read at the bounds.
    fn seek(&mut self) {
        self.sources.clear();
        if is_empty(&self.bounds) {
            return;
        }
        let view = self.snapshot.view();
        let memories = view.memories().cloned().map(From::Memory);
        let files = view.files().cursors(&self.bounds, self.reverse).into_iter().map(From::Files);
        self.sources.extend(memories.chain(files).map(|from| Source { from, head: None }));
    }
}

impl Source {
    /// The next row of a source within the bounds. The bounds only get narrower.
    fn head(
        &mut self,
        bounds: &Bounds,
        at: u64,
        reverse: bool,
    ) -> lsm_tree::Result<Option<&(Slice, Row)>> {
        if self.head.is_none() {
            let next = match &mut self.from {
                From::Memory(memory) if reverse => {
                    memory.before(&bounds.1, at).filter(|(key, _)| is_behind(key, &bounds.0))
                }
                From::Memory(memory) => {
                    memory.after(&bounds.0, at).filter(|(key, _)| is_before(key, &bounds.1))
                }
                From::Files(cursor) => cursor.next()?,
            };
            self.head = Some(next);
        }
        Ok(self.head.as_ref().and_then(Option::as_ref))
    }
}

fn is_behind(key: &Slice, start: &Bound<Slice>) -> bool {
    match start {
        Bound::Included(start) => key >= start,
        Bound::Excluded(start) => key > start,
        Bound::Unbounded => true,
    }
}

fn is_before(key: &Slice, end: &Bound<Slice>) -> bool {
    match end {
        Bound::Included(end) => key <= end,
        Bound::Excluded(end) => key < end,
        Bound::Unbounded => true,
    }
}

/// Whether the end has passed the start.
fn is_empty(bounds: &Bounds) -> bool {
    match bounds {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (
            Bound::Included(start) | Bound::Excluded(start),
            Bound::Included(end) | Bound::Excluded(end),
        ) => start >= end,
    }
}
