use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use partykit_core::runtime::Mailboxes;
use tokio::sync::oneshot;

use crate::{
    crowd::{Crowd, Ticket},
    limits::{Evicted, prefix},
};

/// The default of [`Builder::max_inbound_memory`](crate::Builder::max_inbound_memory): 256 MiB.
pub(crate) const INBOUND: usize = 256 << 20;

/// The memory of the whole process for what clients send. When it is used up, the oldest unfinished part of
/// the address that uses most is given up. So a client that sends little always finds space.
pub(crate) struct Memory {
    limit: usize,
    /// The mailboxes of all rooms. They may use half of the memory.
    mailboxes: Arc<Mailboxes>,
    books: Mutex<Books>,
    /// Parts were given up and have not freed their memory yet, so no new part should begin.
    short: AtomicBool,
}

#[derive(Default)]
struct Books {
    /// The unfinished parts.
    growing: Crowd<oneshot::Sender<()>>,
    /// The bytes of finished parts that are still in use.
    whole: usize,
    /// The bytes of parts that were given up and are not dropped yet.
    leaving: usize,
    /// Tasks that go on reading when there is space.
    waiting: Vec<Waker>,
}

/// There is no space for the part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoSpace;

impl Memory {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            mailboxes: Mailboxes::new(limit / 2),
            books: Mutex::default(),
            short: AtomicBool::new(false),
        })
    }

    pub(crate) fn mailboxes(&self) -> &Arc<Mailboxes> {
        &self.mailboxes
    }

    /// Begins a part of a client at this address. The second result is ready when the part has to be dropped.
    pub(crate) fn begin(self: &Arc<Self>, address: Option<IpAddr>) -> (Part, Evicted) {
        let (evict, evicted) = oneshot::channel();
        let ticket = self.books().growing.join(address.map(prefix), 0, evict);
        (Part { memory: self.clone(), ticket, bytes: 0 }, Evicted::new(evicted))
    }

    /// Whether parts that were given up still use an eighth of the limit or more. Then a reader of an
    /// unfinished part should wait for [`Memory::poll_space`]. Takes no lock.
    pub(crate) fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// Ready when there is space.
    pub(crate) fn poll_space(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_short() {
            return Poll::Ready(());
        }
        let mut books = self.books();
        if !self.is_short() {
            return Poll::Ready(());
        }
        if !books.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            books.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Gives parts up if the memory is used up, and wakes readers if there is space again.
    fn settle(&self, mut books: MutexGuard<'_, Books>) {
        let short = books.leaving > self.limit / 8;
        self.short.store(short, Ordering::Relaxed);
        let waiting = if short { Vec::new() } else { std::mem::take(&mut books.waiting) };
        drop(books);
        waiting.into_iter().for_each(Waker::wake);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part that is arriving.
pub(crate) struct Part {
    memory: Arc<Memory>,
    ticket: Ticket,
    bytes: usize,
}

impl Part {
    /// Sets how many bytes the part needs in total.
    ///
    /// # Errors
    ///
    /// When there is no space for the part. Drop it.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), NoSpace> {
        let mut books = self.memory.books();
        if !books.growing.weigh(self.ticket, bytes) {
            return Err(NoSpace);
        }
        self.bytes = bytes;
        let mut before = books.growing.weight();
        // Rooms that do not keep up get at most half, so half is left for unfinished parts.
        let waiting = self.memory.mailboxes.bytes().min(self.memory.limit / 2);
        while before + books.whole + waiting > self.memory.limit {
            let Some((_, evict)) = books.growing.evict() else { break };
            let after = books.growing.weight();
            books.leaving += before - after;
            before = after;
            let _ = evict.send(());
        }
        let stays = books.growing.has(self.ticket);
        self.memory.settle(books);
        if stays { Ok(()) } else { Err(NoSpace) }
    }

    /// Marks the part as complete. It is not given up any more.
    ///
    /// # Errors
    ///
    /// When the part was given up before.
    pub(crate) fn finish(mut self, bytes: usize) -> Result<Whole, NoSpace> {
        let memory = self.memory.clone();
        let mut books = memory.books();
        if books.growing.leave(self.ticket).is_none() {
            drop(books);
            return Err(NoSpace);
        }
        // From now on it counts as whole.
        self.bytes = 0;
        books.whole += bytes;
        drop(books);
        Ok(Whole { memory, bytes })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut books = self.memory.books();
        if books.growing.leave(self.ticket).is_none() {
            books.leaving -= self.bytes;
            self.memory.settle(books);
        }
    }
}

/// A complete part. It counts until it is dropped.
pub(crate) struct Whole {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.memory.books().whole -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn who_has_the_most_makes_space_for_the_others() {
        let memory = Memory::new(100);
        let ip = |last| Some(IpAddr::from([10, 0, 0, last]));
        let (mut large, gone) = memory.begin(ip(1));
        let (mut small, stays) = memory.begin(ip(2));
        assert_eq!((large.grow(70), small.grow(30)), (Ok(()), Ok(())));
        assert_eq!(small.grow(31), Ok(()));
        assert!(gone.wait().now_or_never().is_some());
        assert_eq!(large.grow(70), Err(NoSpace), "what had to go stays away");
        let whole = small.finish(31).unwrap();
        let (mut other, _) = memory.begin(ip(1));
        assert_eq!((other.grow(69), other.grow(70)), (Ok(()), Err(NoSpace)), "what is whole stays");
        drop(whole);
        assert!(stays.wait().now_or_never().is_none());
        let (mut last, _) = memory.begin(None);
        assert_eq!((last.grow(100), last.grow(101)), (Ok(()), Err(NoSpace)));
        drop((large, other, last));
        let books = memory.books();
        assert_eq!((books.growing.len(), books.whole), (0, 0));
    }
}
