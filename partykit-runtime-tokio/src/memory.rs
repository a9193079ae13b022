use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{
    admission::{Evicted, prefix},
    crowd::{Crowd, Ticket},
};

/// How much memory there is for what clients send, unless somebody says otherwise: 256 MiB.
pub(crate) const INBOUND: usize = 256 << 20;

/// The memory of the whole process for what clients send. When there is no more, what goes is the oldest
/// unfinished part of the address that has the most: whoever sends little always finds some.
pub(crate) struct Memory {
    limit: usize,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    /// What is still to grow.
    growing: Crowd<oneshot::Sender<()>>,
    /// Bytes of what has arrived whole, and is being worked on.
    whole: usize,
}

/// What was to be kept has no space.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoSpace;

impl Memory {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, books: Mutex::default() })
    }

    /// Something of a client at this address begins to arrive. The second result tells when it is to be
    /// dropped.
    pub(crate) fn begin(self: &Arc<Self>, address: Option<IpAddr>) -> (Part, Evicted) {
        let (evict, evicted) = oneshot::channel();
        let ticket = self.books().growing.join(address.map(prefix), 0, evict);
        (Part { memory: self.clone(), ticket }, Evicted::new(evicted))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that arrives.
pub(crate) struct Part {
    memory: Arc<Memory>,
    ticket: Ticket,
}

impl Part {
    /// It is about to take so many bytes in all.
    ///
    /// # Errors
    ///
    /// When there is no space for it: it is to be dropped.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), NoSpace> {
        let mut books = self.memory.books();
        if !books.growing.weigh(self.ticket, bytes) {
            return Err(NoSpace);
        }
        while books.growing.weight() + books.whole > self.memory.limit {
            let Some((_, evict)) = books.growing.evict() else { break };
            let _ = evict.send(());
        }
        if books.growing.has(self.ticket) { Ok(()) } else { Err(NoSpace) }
    }

    /// It has arrived whole, and is not to be dropped any more.
    ///
    /// # Errors
    ///
    /// When it had to go before that.
    pub(crate) fn finish(self, bytes: usize) -> Result<Whole, NoSpace> {
        let memory = self.memory.clone();
        let mut books = memory.books();
        if books.growing.leave(self.ticket).is_none() {
            return Err(NoSpace);
        }
        books.whole += bytes;
        drop(books);
        Ok(Whole { memory, bytes })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.memory.books().growing.leave(self.ticket);
    }
}

/// Something that has arrived whole, until it is dropped.
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
