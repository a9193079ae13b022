use std::{
    fmt,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use async_trait::async_trait;
use futures_channel::oneshot;

use super::WrappedBackend;
use crate::{
    Backend, BackendError, Batch, Epoch, RoomAddress, Timestamp, value::splitmix::SplitMix64,
};

/// A [`Backend`] for tests, with delays and failures that the contract allows.
///
/// Delays and failures depend on the seed and on the order in which calls are first polled, so a
/// single-threaded test repeats exactly. There is no clock here, so a delay is a number of polls: the future
/// wakes itself this many times before it is ready. Some of these polls come before the inner call and some
/// after it, so a dropped slow commit may or may not be applied.
///
/// A failing commit returns [`BackendError::Failed`], and may have been applied or not, as the contract
/// allows.
///
/// Clones share the inner backend, the random numbers and the controls. Keep a clone to control it.
///
/// ```
/// use partykit_core::{Backend, Batch, MemoryBackend, RoomAddress, RoomId, testing::FaultyBackend};
///
/// # futures_executor::block_on(async {
/// let backend = FaultyBackend::new(MemoryBackend::default(), 42).delay(0..=3);
/// let room = RoomAddress::new("chat", RoomId::new("lobby")?);
/// let epoch = backend.claim(&room).await?.epoch;
/// let mut batch = Batch::default();
/// batch.writes.insert("k".into(), Some("v".into()));
///
/// backend.fail_next_commit();
/// assert!(backend.commit(&room, epoch, batch.clone()).await.is_err());
/// assert!(backend.inner().rows(&room).is_empty());
///
/// backend.fail_next_commit_applied();
/// assert!(backend.commit(&room, epoch, batch).await.is_err());
/// assert_eq!(backend.inner().rows(&room).len(), 1);
/// # Ok::<(), partykit_core::BoxError>(())
/// # }).unwrap();
/// ```
pub struct FaultyBackend<B>(Arc<Shared<B>>);

struct Shared<B> {
    inner: B,
    faults: Mutex<Faults>,
}

struct Faults {
    random: SplitMix64,
    random_wake_ups: SplitMix64,
    delay: RangeInclusive<u32>,
    fail_commits: f64,
    fail_reads: f64,
    next_commit: Option<Failure>,
    next_read: Option<Failure>,
    /// The commits that wait to be released, while commits are held.
    held: Option<Vec<oneshot::Sender<()>>>,
    /// How many wake-ups were given out.
    wake_ups: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Failure {
    Before,
    After,
}

/// What happens to one call.
struct Plan {
    polls_before: u32,
    polls_after: u32,
    failure: Option<Failure>,
}

impl<B> FaultyBackend<B> {
    /// Wraps `inner`. Without further settings it neither delays nor fails.
    pub fn new(inner: B, seed: u64) -> Self {
        let faults = Faults {
            random: SplitMix64::new(seed),
            random_wake_ups: SplitMix64::new(!seed),
            delay: 0..=0,
            fail_commits: 0.0,
            fail_reads: 0.0,
            next_commit: None,
            next_read: None,
            held: None,
            wake_ups: 0,
        };
        Self(Arc::new(Shared { inner, faults: Mutex::new(faults) }))
    }

    /// Fails commits with this probability, from 0 to 1.
    ///
    /// ```
    /// use partykit_core::{MemoryBackend, testing::FaultyBackend};
    ///
    /// let backend = FaultyBackend::new(MemoryBackend::default(), 1).fail_commits(0.1).fail_reads(0.01);
    /// # let _ = backend;
    /// ```
    #[must_use]
    pub fn fail_commits(self, probability: f64) -> Self {
        self.faults().fail_commits = probability;
        self
    }

    /// Fails claims, reads, scans and lists of rooms with this probability, from 0 to 1. A failed claim may have
    /// taken the room over. See [`fail_commits`](Self::fail_commits) for an example.
    #[must_use]
    pub fn fail_reads(self, probability: f64) -> Self {
        self.faults().fail_reads = probability;
        self
    }

    /// Makes every call wait for a number of polls from this range. See [`FaultyBackend`] for an
    /// example.
    #[must_use]
    pub fn delay(self, polls: RangeInclusive<u32>) -> Self {
        self.faults().delay = polls;
        self
    }

    /// Fails the next commit; it is not applied. See [`FaultyBackend`] for an example.
    pub fn fail_next_commit(&self) {
        self.faults().next_commit = Some(Failure::Before);
    }

    /// Fails the next commit, although it is applied. See [`FaultyBackend`] for an example.
    pub fn fail_next_commit_applied(&self) {
        self.faults().next_commit = Some(Failure::After);
    }

    /// Fails the next claim, read, scan or list of rooms; the inner backend does not see it.
    ///
    /// ```
    /// use partykit_core::{Backend, MemoryBackend, RoomAddress, RoomId, testing::FaultyBackend};
    ///
    /// # futures_executor::block_on(async {
    /// let backend = FaultyBackend::new(MemoryBackend::default(), 1);
    /// let room = RoomAddress::new("chat", RoomId::new("lobby")?);
    /// backend.fail_next_read();
    /// assert!(backend.claim(&room).await.is_err());
    /// assert!(backend.claim(&room).await.is_ok());
    /// # Ok::<(), partykit_core::BoxError>(())
    /// # }).unwrap();
    /// ```
    pub fn fail_next_read(&self) {
        self.faults().next_read = Some(Failure::Before);
    }

    /// Holds commits from now on: they stay in flight and are not applied until
    /// [`release_commits`](Self::release_commits). A held commit that is dropped is never applied.
    ///
    /// ```
    /// use futures_util::FutureExt;
    /// use partykit_core::{Backend, Batch, MemoryBackend, RoomAddress, RoomId, testing::FaultyBackend};
    ///
    /// # futures_executor::block_on(async {
    /// let backend = FaultyBackend::new(MemoryBackend::default(), 1);
    /// let room = RoomAddress::new("chat", RoomId::new("lobby")?);
    /// let epoch = backend.claim(&room).await?.epoch;
    ///
    /// backend.hold_commits();
    /// let mut commit = backend.commit(&room, epoch, Batch::default());
    /// assert!((&mut commit).now_or_never().is_none());
    /// assert_eq!(backend.held_commits(), 1);
    ///
    /// backend.release_commits();
    /// commit.await?;
    /// # Ok::<(), partykit_core::BoxError>(())
    /// # }).unwrap();
    /// ```
    pub fn hold_commits(&self) {
        self.faults().held.get_or_insert_default();
    }

    /// Lets held commits go on, and later ones pass. See [`hold_commits`](Self::hold_commits) for an
    /// example.
    pub fn release_commits(&self) {
        let held = self.faults().held.take();
        drop(held);
    }

    /// How many commits are held at this moment. See [`hold_commits`](Self::hold_commits) for an
    /// example.
    pub fn held_commits(&self) -> usize {
        let faults = self.faults();
        faults.held.iter().flatten().filter(|commit| !commit.is_canceled()).count()
    }

    /// How many wake-ups all calls of [`Backend::wake_ups`] have returned: what a runtime has read.
    ///
    /// ```
    /// use partykit_core::{Backend, MemoryBackend, testing::FaultyBackend};
    ///
    /// let backend = FaultyBackend::new(MemoryBackend::default(), 1);
    /// assert!(futures_executor::block_on(backend.wake_ups(None, 64)).unwrap().is_empty());
    /// assert_eq!(backend.wake_ups_given(), 0);
    /// ```
    pub fn wake_ups_given(&self) -> usize {
        self.faults().wake_ups
    }

    /// The inner backend, to look at rows without faults. See [`FaultyBackend`] for an example.
    pub fn inner(&self) -> &B {
        &self.0.inner
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.0.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn released(&self) {
        let released = self.faults().held.as_mut().map(|held| {
            let (release, released) = oneshot::channel();
            held.retain(|commit| !commit.is_canceled());
            held.push(release);
            released
        });
        if let Some(released) = released {
            // Nothing is sent. The dropped sender is the signal.
            let _ = released.await;
        }
    }
}

impl Faults {
    fn plan_read(&mut self) -> Plan {
        let probability = self.fail_reads;
        let forced = self.next_read.take();
        self.plan(forced, probability)
    }

    /// Uses random numbers of its own, so that the number of these calls does not change other faults.
    fn plan_wake_ups(&mut self) -> bool {
        self.random_wake_ups.chance(self.fail_reads)
    }

    fn plan_commit(&mut self) -> Plan {
        let probability = self.fail_commits;
        let forced = self.next_commit.take();
        self.plan(forced, probability)
    }

    /// Always draws the same number of random numbers, so that a forced failure does not change later faults.
    fn plan(&mut self, forced: Option<Failure>, probability: f64) -> Plan {
        let fails = self.random.chance(probability);
        let drawn = if self.random.chance(0.5) { Failure::Before } else { Failure::After };
        let spread = u64::from(self.delay.end().saturating_sub(*self.delay.start()));
        let polls = u64::from(*self.delay.start()) + self.random.below(spread + 1);
        let before = self.random.below(polls + 1);
        Plan {
            polls_before: before as u32,
            polls_after: (polls - before) as u32,
            failure: forced.or(fails.then_some(drawn)),
        }
    }
}

#[async_trait]
impl<B: Backend> WrappedBackend for FaultyBackend<B> {
    type Inner = B;

    fn inner(&self) -> &B {
        &self.0.inner
    }

    async fn reading<T: Send>(
        &self,
        _: Option<&RoomAddress>,
        read: impl Future<Output = Result<T, BackendError>> + Send,
    ) -> Result<T, BackendError> {
        let plan = self.faults().plan_read();
        polls(plan.polls_before).await;
        let read = match plan.failure {
            Some(Failure::Before) => Err(injected("read")),
            Some(Failure::After) => read.await.and(Err(injected("read"))),
            None => read.await,
        };
        polls(plan.polls_after).await;
        read
    }

    async fn committing(
        &self,
        room: &RoomAddress,
        epoch: Epoch,
        batch: Batch,
    ) -> Result<(), BackendError> {
        let plan = self.faults().plan_commit();
        polls(plan.polls_before).await;
        self.released().await;
        if plan.failure == Some(Failure::Before) {
            return Err(injected("commit"));
        }
        self.inner().commit(room, epoch, batch).await?;
        polls(plan.polls_after).await;
        match plan.failure {
            Some(_) => Err(injected("commit")),
            None => Ok(()),
        }
    }

    async fn waking(
        &self,
        after: Option<&(Timestamp, RoomAddress)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RoomAddress)>, BackendError> {
        if self.faults().plan_wake_ups() {
            return Err(injected("wake_ups"));
        }
        let found = self.inner().wake_ups(after, limit).await?;
        self.faults().wake_ups += found.len();
        Ok(found)
    }
}

impl<B> Clone for FaultyBackend<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: fmt::Debug> fmt::Debug for FaultyBackend<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyBackend").field("inner", self.inner()).finish_non_exhaustive()
    }
}

/// Ready after `count` polls.
async fn polls(mut count: u32) {
    std::future::poll_fn(|cx| {
        if count == 0 {
            return Poll::Ready(());
        }
        count -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn injected(call: &str) -> BackendError {
    BackendError::Failed(format!("a {call} that was made to fail").into())
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;
    use futures_util::FutureExt;

    use super::*;
    use crate::{MemoryBackend, RoomId};

    fn room() -> RoomAddress {
        RoomAddress::new("main", RoomId::new("a").unwrap())
    }

    fn batch(n: u32) -> Batch {
        Batch { writes: [(n.to_string().into(), Some("v".into()))].into(), ..Batch::default() }
    }

    /// Which of 200 commits failed, and which were applied.
    async fn trace(seed: u64) -> (Vec<bool>, Vec<bool>) {
        let backend =
            FaultyBackend::new(MemoryBackend::default(), seed).fail_commits(0.5).delay(0..=2);
        let epoch = backend.claim(&room()).await.unwrap().epoch;
        let (mut failed, mut applied) = (Vec::new(), Vec::new());
        for n in 0..200 {
            let rows = backend.inner().rows(&room()).len();
            failed.push(backend.commit(&room(), epoch, batch(n)).await.is_err());
            applied.push(backend.inner().rows(&room()).len() > rows);
        }
        (failed, applied)
    }

    #[test]
    fn the_seed_decides_and_all_three_outcomes_occur() {
        block_on(async {
            let (failed, applied) = trace(1).await;
            assert_eq!((failed.clone(), applied.clone()), trace(1).await);
            assert_ne!((failed.clone(), applied.clone()), trace(2).await);
            for outcome in [(false, true), (true, false), (true, true)] {
                let mut outcomes = failed.iter().copied().zip(applied.iter().copied());
                assert!(outcomes.any(|found| found == outcome), "{outcome:?}");
            }
            assert!(failed.iter().zip(&applied).all(|(failed, applied)| *failed || *applied));
        });
    }

    #[test]
    fn a_delay_is_a_number_of_polls() {
        block_on(async {
            let backend = FaultyBackend::new(MemoryBackend::default(), 1).delay(3..=3);
            let room = room();
            let mut claim = backend.claim(&room);
            for _ in 0..3 {
                assert!((&mut claim).now_or_never().is_none());
            }
            assert!((&mut claim).now_or_never().is_some());
        });
    }

    #[test]
    fn held_commits_are_not_applied_before_they_are_released() {
        block_on(async {
            let backend = FaultyBackend::new(MemoryBackend::default(), 1);
            let room = room();
            let epoch = backend.claim(&room).await.unwrap().epoch;
            backend.hold_commits();
            let mut kept = backend.commit(&room, epoch, batch(1));
            let mut dropped = backend.commit(&room, epoch, batch(2));
            assert!(
                (&mut kept).now_or_never().is_none() && (&mut dropped).now_or_never().is_none()
            );
            assert_eq!(backend.held_commits(), 2);
            drop(dropped);
            assert_eq!(backend.held_commits(), 1);
            assert!(backend.inner().rows(&room).is_empty());
            backend.release_commits();
            kept.await.unwrap();
            assert_eq!(backend.inner().rows(&room).len(), 1);
            let passed = backend.commit(&room, epoch, batch(3)).now_or_never();
            passed.expect("nothing is held any more").unwrap();
        });
    }
}
