use std::ops::{Deref, DerefMut};

use crate::connection::record::Record;

/// Records in order. A lone one takes nothing from the allocator.
pub(super) enum Sorted {
    One(Record),
    Any(Vec<Record>),
}

impl Sorted {
    /// With space for this many records, and no more.
    pub(super) fn with_capacity(records: usize) -> Self {
        Self::Any(Vec::with_capacity(if records > 1 { records } else { 0 }))
    }

    pub(super) fn insert(&mut self, at: usize, record: Record) {
        match self {
            Self::Any(all) if all.capacity() == 0 => *self = Self::One(record),
            _ => self.as_vec().insert(at, record),
        }
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Record) -> bool) {
        self.as_vec().retain(keep);
        self.trim();
    }

    /// Gives back the memory that it does not need.
    pub(super) fn trim(&mut self) {
        let Self::Any(all) = self else { return };
        match all.pop() {
            Some(last) if all.is_empty() => *self = Self::One(last),
            last => {
                all.extend(last);
                all.shrink_to_fit();
            }
        }
    }

    fn as_vec(&mut self) -> &mut Vec<Record> {
        if let Self::One(_) = self
            && let Self::One(record) = std::mem::take(self)
        {
            let mut all = Vec::with_capacity(4);
            all.push(record);
            *self = Self::Any(all);
        }
        match self {
            Self::Any(all) => all,
            Self::One(_) => unreachable!("it was made a list above"),
        }
    }
}

impl Default for Sorted {
    fn default() -> Self {
        Self::Any(Vec::new())
    }
}

impl Deref for Sorted {
    type Target = [Record];

    fn deref(&self) -> &[Record] {
        match self {
            Self::One(record) => std::slice::from_ref(record),
            Self::Any(all) => all,
        }
    }
}

impl DerefMut for Sorted {
    fn deref_mut(&mut self) -> &mut [Record] {
        match self {
            Self::One(record) => std::slice::from_mut(record),
            Self::Any(all) => all,
        }
    }
}
