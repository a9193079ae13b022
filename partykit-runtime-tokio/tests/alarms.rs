//! Alarms ring: of rooms that are not in memory, after a restart, however many there are. Time is
//! virtual.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use partykit_core::{
    Alarm, Backend, Batch, Body, MemoryBackend, Options, Request, RequestExt, Response, Result,
    Room, RoomAddress, RoomId, Server, Timestamp, WakeUp, testing::FaultyBackend,
};
use partykit_runtime_tokio::{Handle, Runtime};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// What the rooms of a test share with it.
#[derive(Clone, Default)]
struct Tower {
    /// How often each room's alarm rang.
    rung: Arc<Mutex<BTreeMap<String, usize>>>,
    /// Alarms that rang before their time.
    early: Arc<AtomicUsize>,
    starts_fail: Arc<AtomicBool>,
    handlers_fail: Arc<AtomicBool>,
    /// How many more alarms the handler sets for a moment that has passed.
    again: Arc<AtomicUsize>,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

struct Bell(Tower);

impl Server for Bell {
    fn options() -> Options {
        Options::new().hibernate(true).hibernate_after(SECOND)
    }

    async fn on_start(&mut self, _: &Room) -> Result {
        match self.0.starts_fail.load(Ordering::SeqCst) {
            true => Err("cannot start".into()),
            false => Ok(()),
        }
    }

    /// Sets the alarm this many milliseconds from now.
    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        let wait = request.query("in").ok_or("in how many milliseconds?")?.parse()?;
        room.storage().set_alarm(room.now() + Duration::from_millis(wait))?;
        Ok(Response::new("set".into()))
    }

    async fn on_alarm(&mut self, room: &Room, alarm: Alarm) -> Result {
        let tower = &self.0;
        let now = tower.now.fetch_add(1, Ordering::SeqCst) + 1;
        tower.most.fetch_max(now, Ordering::SeqCst);
        // Virtual time is added to the real clock, which is not read in the same moment.
        let early = room.now() + Duration::from_millis(100) < alarm.scheduled;
        tower.early.fetch_add(usize::from(early), Ordering::SeqCst);
        *tower.rung.lock().unwrap().entry(room.id().to_owned()).or_default() += 1;
        tokio::task::yield_now().await;
        tower.now.fetch_sub(1, Ordering::SeqCst);
        let count = |left: usize| left.checked_sub(1);
        if tower.again.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count).is_ok() {
            room.storage().set_alarm(Timestamp::from_millis(1))?;
        }
        match tower.handlers_fail.load(Ordering::SeqCst) {
            true => Err("cannot ring".into()),
            false => Ok(()),
        }
    }
}

impl Tower {
    fn runtime(&self, backend: impl Backend) -> Handle {
        let tower = self.clone();
        let builder = Runtime::builder().party_with("bell", move |_| Bell(tower.clone()));
        builder.backend(Arc::new(backend)).build().unwrap().handle()
    }

    fn rung(&self) -> usize {
        self.rung.lock().unwrap().values().sum()
    }

    /// Lets time pass until this many have rung.
    async fn wait_for(&self, rung: usize) {
        let begin = Instant::now();
        while self.rung() < rung {
            assert!(begin.elapsed() < Duration::from_secs(1 << 20), "{} rang", self.rung());
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(self.rung(), rung);
    }
}

async fn set(handle: &Handle, room: &str, wait: Duration) {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = format!("/parties/bell/{room}?in={}", wait.as_millis()).parse().unwrap();
    handle.request("bell", room, request).await.unwrap();
}

fn room(name: &str) -> RoomAddress {
    RoomAddress::new("bell", RoomId::new(name).unwrap())
}

/// Stores a wake-up without an alarm, or takes it away.
async fn wake_up(backend: &MemoryBackend, room: &RoomAddress, wake_up: WakeUp) {
    let claim = backend.claim(room).await.unwrap();
    let batch = Batch { wake_up: Some(wake_up), ..Batch::default() };
    backend.commit(room, claim.epoch, batch).await.unwrap();
    backend.release(room, claim.epoch);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_nowhere_in_memory_rings_at_its_time() {
    let (tower, backend) = (Tower::default(), MemoryBackend::default());
    let handle = tower.runtime(backend.clone());
    set(&handle, "late", 2 * 3600 * SECOND).await;
    set(&handle, "early", 3600 * SECOND).await;
    sleep(10 * SECOND).await;
    assert_eq!(handle.stats().parties["bell"].rooms, 0, "no trace of a room that only waits");
    sleep(3580 * SECOND).await;
    assert_eq!(tower.rung(), 0);
    sleep(20 * SECOND).await;
    assert_eq!(*tower.rung.lock().unwrap(), [("early".to_owned(), 1)].into());
    tower.wait_for(2).await;
    sleep(2 * SECOND).await;
    assert_eq!(handle.stats().parties["bell"].rooms, 0);
    assert_eq!(tower.early.load(Ordering::SeqCst), 0);
    assert!(backend.wake_ups(None, 1).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn alarms_outlive_the_runtime() {
    let (tower, backend) = (Tower::default(), MemoryBackend::default());
    let handle = tower.runtime(backend.clone());
    set(&handle, "missed", 60 * SECOND).await;
    set(&handle, "later", 600 * SECOND).await;
    handle.shutdown().await;
    drop(handle);
    sleep(300 * SECOND).await;
    assert_eq!(tower.rung(), 0);

    // Its wall clock begins again, as if the system's had been set back.
    let handle = tower.runtime(backend.clone());
    tower.wait_for(1).await;
    tower.wait_for(2).await;
    assert_eq!(tower.early.load(Ordering::SeqCst), 0);
    drop(handle);
}

#[tokio::test(start_paused = true)]
async fn many_that_are_due_at_once_all_ring_once_and_a_bounded_number_at_a_time() {
    let (tower, backend) = (Tower::default(), MemoryBackend::default());
    let handle = tower.runtime(backend.clone());
    let moment = Instant::now() + 600 * SECOND;
    for n in 0..2000 {
        set(&handle, &format!("{n}"), moment - Instant::now()).await;
    }
    tower.wait_for(2000).await;
    assert!(tower.rung.lock().unwrap().values().all(|rung| *rung == 1));
    assert_eq!(tower.early.load(Ordering::SeqCst), 0);
    let most = tower.most.load(Ordering::SeqCst);
    assert!((2..=320).contains(&most), "{most} at a time");
    sleep(600 * SECOND).await;
    assert_eq!(tower.rung(), 2000);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_due_is_not_read() {
    let (tower, memory) = (Tower::default(), MemoryBackend::default());
    let now = Timestamp::from(std::time::SystemTime::now());
    for n in 0..20_000_u32 {
        let at = now + SECOND * (if n == 0 { 0 } else { 1_000_000 + n });
        wake_up(&memory, &room(&n.to_string()), WakeUp::At(at)).await;
    }
    let backend = FaultyBackend::new(memory, 1);
    let handle = tower.runtime(backend.clone());
    sleep(3600 * SECOND).await;
    let read = backend.wake_ups_given();
    assert!(read < 20_000 / 2, "{read} entries were read");
    drop(handle);
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_set_one_for_a_moment_that_has_passed() {
    let (tower, backend) = (Tower::default(), MemoryBackend::default());
    let handle = tower.runtime(backend.clone());
    tower.again.store(5, Ordering::SeqCst);
    set(&handle, "echo", SECOND).await;
    tower.wait_for(6).await;
    sleep(100 * SECOND).await;
    assert_eq!(tower.rung(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_party_that_is_not_there_keeps_its_alarm_and_holds_nobody_up() {
    let (tower, backend) = (Tower::default(), MemoryBackend::default());
    let other = RoomAddress::new("gone", RoomId::new("r").unwrap());
    wake_up(&backend, &other, WakeUp::At(Timestamp::from_millis(1))).await;
    let handle = tower.runtime(backend.clone());
    set(&handle, "here", SECOND).await;
    tower.wait_for(1).await;
    assert_eq!(backend.wake_ups(None, 9).await.unwrap(), [(Timestamp::from_millis(1), other)]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_now_and_then_loses_none() {
    for seed in 0..10 {
        let (tower, memory) = (Tower::default(), MemoryBackend::default());
        let backend = FaultyBackend::new(memory.clone(), seed).delay(0..=2);
        let handle = tower.runtime(backend.clone());
        for n in 0..20 {
            set(&handle, &n.to_string(), SECOND * n).await;
        }
        drop(backend.clone().fail_commits(0.3).fail_reads(0.3));
        sleep(40 * SECOND).await;
        drop(backend.clone().fail_commits(0.0).fail_reads(0.0));
        // Every fifth failure in a row doubles the time until the next attempt.
        sleep(600 * SECOND).await;
        assert_eq!(tower.rung.lock().unwrap().len(), 20, "seed {seed}");
        assert!(memory.wake_ups(None, 1).await.unwrap().is_empty(), "seed {seed}");
        assert_eq!(tower.early.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn rooms_that_cannot_start_hold_nobody_up_and_ring_when_they_can() {
    let (tower, backend) = (Tower::default(), MemoryBackend::default());
    let handle = tower.runtime(backend.clone());
    for n in 0..600 {
        set(&handle, &n.to_string(), 10 * SECOND).await;
    }
    sleep(5 * SECOND).await;
    tower.starts_fail.store(true, Ordering::SeqCst);
    sleep(300 * SECOND).await;
    assert_eq!(tower.rung(), 0);
    tower.starts_fail.store(false, Ordering::SeqCst);
    set(&handle, "other", SECOND).await;
    sleep(2 * SECOND).await;
    assert_eq!(tower.rung.lock().unwrap().get("other"), Some(&1), "it waits for none of them");
    tower.wait_for(601).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_fails_is_run_again_six_times() {
    let (tower, backend) = (Tower::default(), MemoryBackend::default());
    let handle = tower.runtime(backend.clone());
    tower.handlers_fail.store(true, Ordering::SeqCst);
    set(&handle, "broken", SECOND).await;
    let begin = Instant::now();
    tower.wait_for(7).await;
    let took = begin.elapsed().as_secs();
    assert!((127..=131).contains(&took), "2 + 4 + .. + 64 s: {took}");
    sleep(1000 * SECOND).await;
    assert_eq!(tower.rung(), 7);
    assert!(backend.wake_ups(None, 1).await.unwrap().is_empty());
    drop(handle);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_runtime_that_is_dropped() {
    let (tower, backend) = (Tower::default(), Arc::new(MemoryBackend::default()));
    let factory = tower.clone();
    let builder = Runtime::builder().party_with("bell", move |_| Bell(factory.clone()));
    let handle = builder.backend(backend.clone()).build().unwrap().handle();
    set(&handle, "a", 100 * SECOND).await;
    drop(handle);
    sleep(10 * SECOND).await;
    assert_eq!(Arc::strong_count(&backend), 1);
    sleep(1000 * SECOND).await;
    assert_eq!(tower.rung(), 0);
}
