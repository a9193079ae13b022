use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What waits in the mailboxes of many rooms together, in bytes of memory, and how much may.
///
/// Beyond the limit a room takes messages only while little of them waits: the other sockets of a room that
/// does not keep up wait, as they do when its own mailbox is full, and all other rooms go on. See
/// [`Host::mailboxes`](crate::runtime::Host::mailboxes).
///
/// ```
/// use partykit_core::runtime::Mailboxes;
///
/// let mailboxes = Mailboxes::new(64 << 20);
/// assert_eq!(mailboxes.bytes(), 0);
/// ```
#[derive(Debug)]
pub struct Mailboxes {
    limit: usize,
    bytes: AtomicUsize,
}

impl Mailboxes {
    /// For all rooms that are to share `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, bytes: AtomicUsize::new(0) })
    }

    /// What waits now, in bytes. Of each room up to 32 KiB are not counted.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether there is more than there may be.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes() > self.limit
    }
}

/// The part of one room.
#[derive(Debug, Default)]
pub(crate) struct Portion {
    all: Option<Arc<Mailboxes>>,
    counted: usize,
}

impl Portion {
    /// What a room may have in any case, and the steps in which it is counted: a room that keeps up with
    /// short messages never is.
    pub(crate) const STEP: usize = 16 << 10;

    pub(crate) fn of(all: Option<Arc<Mailboxes>>) -> Self {
        Self { all, counted: 0 }
    }

    /// Whether all rooms together have too much.
    pub(crate) fn is_short(&self) -> bool {
        self.all.as_ref().is_some_and(|all| all.is_full())
    }

    /// This many bytes wait now.
    #[inline]
    pub(crate) fn adjust(&mut self, bytes: usize) {
        let Some(all) = &self.all else { return };
        let counted = bytes - bytes % Self::STEP;
        if counted > self.counted {
            all.bytes.fetch_add(counted - self.counted, Ordering::Relaxed);
            self.counted = counted;
        } else if bytes + Self::STEP <= self.counted {
            all.bytes.fetch_sub(self.counted - counted, Ordering::Relaxed);
            self.counted = counted;
        }
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        if let Some(all) = &self.all {
            all.bytes.fetch_sub(mem::take(&mut self.counted), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portion_is_counted_in_steps_and_given_back() {
        let all = Mailboxes::new(4 * Portion::STEP);
        let (mut one, mut other) = (Portion::of(Some(all.clone())), Portion::of(Some(all.clone())));
        for short in [0, 100, Portion::STEP - 1, 0, 5000] {
            one.adjust(short);
            assert_eq!(all.bytes(), 0);
        }
        one.adjust(3 * Portion::STEP + 1);
        other.adjust(Portion::STEP);
        assert_eq!((all.bytes(), one.is_short()), (4 * Portion::STEP, false));
        other.adjust(2 * Portion::STEP);
        assert!(one.is_short() && other.is_short());
        one.adjust(2 * Portion::STEP + 1);
        assert_eq!(all.bytes(), 5 * Portion::STEP, "a little less is not worth it");
        one.adjust(0);
        drop(other);
        assert_eq!(all.bytes(), 0);
    }
}
