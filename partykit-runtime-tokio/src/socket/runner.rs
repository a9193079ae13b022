//! Runs loops on as few threads as their sockets need.
//!
//! One task runs all loops, one after the other, as long as it can: waking another thread for a few sockets
//! costs more than what these have to say. What it cannot do in one slice of time goes to tasks of its own,
//! each with one loop. They give it back when it has nothing to do.

use std::{
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;
use tracing::error;

use super::reactor::Loop;
use crate::{gather, host::requeue};

/// After this time other tasks run.
pub(super) const SLICE: Duration = Duration::from_millis(2);

/// The time is looked at after this many sockets.
const LOOK: u32 = 16;

/// With this many rooms to run, the loops go to the end of the thread's queue and look for more by themselves.
/// One room runs next in any case: then Tokio looks for more behind it, and wakes no other thread meanwhile.
const ROOMS: usize = 2;

/// A task that runs loops.
pub(super) struct Runner {
    loops: Vec<Loop>,
    away: Arc<Away>,
    slice: Duration,
    /// It was made to help another one.
    helps: bool,
}

/// The loops that others run.
#[derive(Default)]
struct Away(Mutex<List>);

#[derive(Default)]
struct List {
    /// Those that are given back.
    back: Vec<Loop>,
    /// How many tasks run one.
    helpers: usize,
    /// The one that gave them away.
    waker: Option<Waker>,
}

/// For how long loops keep their thread.
pub(super) struct Slice {
    end: Instant,
    polled: u32,
    is_over: bool,
}

impl Runner {
    pub(super) fn new(loops: Vec<Loop>, slice: Duration) -> Self {
        Self { loops, away: Arc::default(), slice, helps: false }
    }

    /// Ends when the loops do, or when they have nothing to do and are another runner's.
    pub(super) async fn run(mut self) {
        while poll_fn(|cx| self.poll_work(cx)).await {
            if self.turn() {
                tokio::task::yield_now().await;
                requeue().await;
                self.loops.iter_mut().for_each(Loop::look);
            }
        }
    }

    /// Ready when there is something to do. `false` when it ends.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let has_helpers = !self.helps && self.away.take_back(&mut self.loops, cx.waker());
        let mut is_work = false;
        self.loops.retain_mut(|it| {
            let goes_on = if it.has_more() { Poll::Ready(Ok(true)) } else { it.poll_ready(cx) };
            match goes_on {
                Poll::Pending => true,
                Poll::Ready(Ok(goes_on)) => {
                    is_work |= goes_on;
                    goes_on
                }
                Poll::Ready(Err(error)) => {
                    let sockets = it.len();
                    error!(sockets, "the sockets cannot be watched any more: {error}");
                    false
                }
            }
        });
        if is_work {
            Poll::Ready(true)
        } else if self.helps || (self.loops.is_empty() && !has_helpers) {
            Poll::Ready(false)
        } else {
            Poll::Pending
        }
    }

    /// Polls the sockets that have something to do. Returns whether it has to look for more by itself.
    fn turn(&mut self) -> bool {
        let (is_over, rooms) = gather::gather_and_count(|| {
            let mut slice = Slice::begin(self.slice);
            self.loops.iter_mut().for_each(|it| it.turn(&mut slice));
            slice.is_over
        });
        if is_over {
            self.give_away();
        }
        // Sockets that have woken themselves have more to read. Others come before that.
        rooms >= ROOMS || self.loops.iter().any(|it| it.has_more() || it.has_woken())
    }

    /// Has all loops but one that have more to do run by others.
    fn give_away(&mut self) {
        let mut keeps = true;
        let more = self.loops.extract_if(.., |it| it.has_more() && !mem::take(&mut keeps));
        for it in more {
            self.away.lock().helpers += 1;
            let (away, slice) = (self.away.clone(), self.slice);
            let helper = Self { loops: vec![it], away, slice, helps: true };
            tokio::spawn(helper.run());
        }
    }
}

/// A helper gives back what it was given.
impl Drop for Runner {
    fn drop(&mut self) {
        if self.helps {
            let waker = {
                let mut list = self.away.lock();
                list.helpers -= 1;
                list.back.append(&mut self.loops);
                list.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl Away {
    /// Takes what is given back. Whether others still run some: then they wake `waker`.
    fn take_back(&self, loops: &mut Vec<Loop>, waker: &Waker) -> bool {
        let mut list = self.lock();
        loops.append(&mut list.back);
        let has_helpers = list.helpers > 0;
        if has_helpers {
            list.waker = Some(waker.clone());
        }
        has_helpers
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slice {
    fn begin(length: Duration) -> Self {
        let now = Instant::now();
        gather::at(now);
        Self { end: now + length, polled: 0, is_over: false }
    }

    /// Whether the time is over, after one more socket was polled.
    pub(super) fn is_over_after_one_more(&mut self) -> bool {
        self.polled += 1;
        if self.polled.is_multiple_of(LOOK) {
            let now = Instant::now();
            gather::at(now);
            self.is_over = now >= self.end;
        }
        self.is_over
    }
}
