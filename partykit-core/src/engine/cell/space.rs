use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    task::Waker,
};

use crate::machine::Intake;

/// Who waits for space in the mailbox: sockets with a message, and tasks with a value.
///
/// Space is promised in the order in which it was asked for, and never more than there is. So only as many
/// waiters are woken as can go on. A promise is kept until it is used or given back. So a woken task must ask
/// again or be [forgotten](Space::forget).
#[derive(Debug, Default)]
pub(super) struct Space {
    /// The waiters in their order. A waiter that is gone stays until its turn.
    queue: VecDeque<u64>,
    waiting: HashMap<u64, Waiter>,
    /// How many of those are in the queue.
    queued: usize,
    /// Those that were woken, and for how many bytes.
    promised: HashMap<u64, usize>,
    promised_bytes: usize,
}

#[derive(Debug)]
struct Waiter {
    waker: Waker,
    size: usize,
    /// Whether it waits for the room, and not only for its own earlier messages.
    queued: bool,
}

/// The tickets of tasks are above all numbers of connections.
pub(super) const TASKS: u64 = 1 << 63;

impl Space {
    /// Whether a waiter has to wait behind others before it may even ask for space. Uses up what was promised
    /// to it.
    pub(super) fn has_to_queue(&mut self, who: u64, intake: Intake<'_>) -> bool {
        if self.redeem(who) {
            return false;
        }
        let itself = self.waiting.get(&who).is_some_and(|waiter| waiter.queued);
        self.queued > usize::from(itself)
            || !intake.has_space_beside(self.promised.len(), self.promised_bytes, 0)
    }

    /// Waits for space for `size` bytes.
    pub(super) fn wait(&mut self, who: u64, size: usize, waker: &Waker, intake: Intake<'_>) {
        self.redeem(who);
        let waiter = self.waiting.entry(who);
        let waiter = waiter.or_insert_with(|| Waiter { waker: waker.clone(), size, queued: false });
        waiter.waker.clone_from(waker);
        waiter.size = size;
        if who >= TASKS || intake.has_space_of(who, size) {
            self.enqueue(who);
        }
    }

    /// Whether there is space that is kept for it.
    pub(super) fn is_promised(&self, who: u64) -> bool {
        self.promised.contains_key(&who)
    }

    /// Whether no connection waits, and none was promised space.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.promised.is_empty()
    }

    /// A waiter waits no more, and needs no space that it was promised.
    pub(super) fn forget(&mut self, who: u64) {
        self.redeem(who);
        if let Some(waiter) = self.waiting.remove(&who) {
            self.queued -= usize::from(waiter.queued);
        }
        if self.is_idle() {
            // The maps of a crowd are large.
            *self = Self::default();
        }
    }

    /// Adds the wakers of all that may go on now.
    pub(super) fn wake(&mut self, intake: Intake<'_>, wakers: &mut Vec<Waker>) {
        if let Some(sender) = intake.half_free_sender() {
            self.enqueue(sender);
        }
        if intake.is_empty() && self.queued < self.waiting.len() {
            // What they had here was dropped, and not handled.
            // In the order in which they came.
            let mut rest = BTreeSet::new();
            rest.extend(self.waiting.keys());
            rest.iter().for_each(|who| self.enqueue(*who));
        }
        while let Some(who) = self.queue.front().copied() {
            if let Some(Waiter { size, queued: true, .. }) = self.waiting.get(&who) {
                let size = *size;
                if !intake.has_space_beside(self.promised.len(), self.promised_bytes, size) {
                    return;
                }
                wakers.extend(self.waiting.remove(&who).map(|waiter| waiter.waker));
                self.queued -= 1;
                self.promised_bytes += size;
                self.promised.insert(who, size);
            }
            self.queue.pop_front();
        }
    }

    fn enqueue(&mut self, who: u64) {
        if let Some(waiter) = self.waiting.get_mut(&who).filter(|waiter| !waiter.queued) {
            waiter.queued = true;
            self.queued += 1;
            self.queue.push_back(who);
        }
    }

    fn redeem(&mut self, who: u64) -> bool {
        let promised = self.promised.remove(&who);
        self.promised_bytes -= promised.unwrap_or(0);
        promised.is_some()
    }
}
