//! Empty queues that a thread keeps, so that what leaves at once needs no memory of its own.

use std::cell::RefCell;

use super::{queue::Queue, sweeper::Second};

/// The most bytes of memory that a thread keeps.
const KEPT: usize = 32 << 10;

thread_local! {
    static SPARE: RefCell<Spare> = const { RefCell::new(Spare { queues: Vec::new(), bytes: 0 }) };
}

struct Spare {
    /// Each with its bytes of memory.
    queues: Vec<(Box<Queue>, usize)>,
    bytes: usize,
}

/// An empty queue that begins now.
pub(super) fn take(now: Second) -> Box<Queue> {
    let spare = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        let (queue, bytes) = spare.queues.pop()?;
        spare.bytes -= bytes;
        Some(queue)
    });
    match spare.ok().flatten() {
        Some(mut queue) => {
            queue.renew(now);
            queue
        }
        None => Box::new(Queue::new(now)),
    }
}

/// Takes a queue that has been written. Keeps it for later if there is space.
pub(super) fn give_back(mut queue: Box<Queue>) {
    let Some(bytes) = queue.retire() else { return };
    // The queue is dropped after this if it is not kept. A thread that ends keeps none.
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.bytes + bytes <= KEPT {
            spare.bytes += bytes;
            spare.queues.push((queue, bytes));
        }
    });
}
