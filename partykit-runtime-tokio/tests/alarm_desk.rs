//! What becomes of an alarm that is not its handler's doing: an operator stops it, and the server goes
//! down. Time is virtual.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use partykit_core::{
    Alarm, Backend, Body, CallError, MemoryBackend, Options, Request, Response, Result, Room,
    Server, Timestamp,
};
use partykit_runtime_tokio::{Builder, Handle, Runtime};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// What happened, and whether handlers come to an end.
#[derive(Clone, Default)]
struct Journal {
    lines: Arc<Mutex<Vec<String>>>,
    stuck: Arc<AtomicBool>,
}

struct Bell(Journal);

impl Server for Bell {
    fn options() -> Options {
        let options = Options::new().hibernate(true).hibernate_after(SECOND);
        options.handler_timeout(Duration::from_secs(3600))
    }

    async fn on_start(&mut self, room: &Room) -> Result {
        self.0.note(format!("start {}", room.id()));
        Ok(())
    }

    /// Sets the alarm, ten seconds from now.
    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        room.storage().set_alarm(room.now() + 10 * SECOND)?;
        Ok(Response::default())
    }

    async fn on_alarm(&mut self, room: &Room, alarm: Alarm) -> Result {
        self.0.note(format!("{} rings {}-{}", room.id(), alarm.retries, alarm.deaths));
        room.storage().put("half", &true)?;
        if self.0.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

impl Journal {
    fn note(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }

    fn builder(&self, backend: &Arc<MemoryBackend>) -> Builder {
        let journal = self.clone();
        let builder = Runtime::builder().party_with("bell", move |_| Bell(journal.clone()));
        builder.backend(backend.clone())
    }

    fn runtime(&self, backend: &Arc<MemoryBackend>) -> Handle {
        self.builder(backend).build().unwrap().handle()
    }

    /// Sets a room's alarm, and lets the room sleep.
    async fn set(&self, handle: &Handle, room: &str) {
        handle.request("bell", room, Request::new(Body::empty())).await.unwrap();
        handle.evict("bell", room).await.unwrap();
        self.take();
    }
}

const NOTHING: [&str; 0] = [];

#[tokio::test(start_paused = true)]
async fn an_operator_reads_parks_sets_and_deletes_an_alarm_without_starting_its_room() {
    let (journal, backend) = (Journal::default(), Arc::new(MemoryBackend::default()));
    let handle = journal.runtime(&backend);
    assert_eq!(handle.alarm("bell", "a").await.unwrap(), None);
    handle.park_alarm("bell", "a").await.unwrap();
    assert_eq!(handle.alarm("bell", "a").await.unwrap(), None, "there is none to park");

    journal.set(&handle, "a").await;
    let alarm = handle.alarm("bell", "a").await.unwrap().unwrap();
    assert_eq!((alarm.rings, alarm.retries, alarm.deaths), (Some(alarm.scheduled), 0, 0));
    handle.park_alarm("bell", "a").await.unwrap();
    let parked = handle.alarm("bell", "a").await.unwrap().unwrap();
    assert_eq!((parked.rings, parked.scheduled), (None, alarm.scheduled));
    assert!(backend.wake_ups(None, 1).await.unwrap().is_empty());
    sleep(1000 * SECOND).await;
    assert_eq!(journal.take(), NOTHING);

    handle.set_alarm("bell", "a", Timestamp::from_millis(1)).await.unwrap();
    sleep(SECOND).await;
    assert_eq!(journal.take(), ["start a", "a rings 0-0"]);
    assert_eq!(handle.alarm("bell", "a").await.unwrap(), None);

    journal.set(&handle, "a").await;
    handle.delete_alarm("bell", "a").await.unwrap();
    sleep(1000 * SECOND).await;
    assert_eq!(journal.take(), NOTHING);
    assert!(matches!(handle.alarm("bell", "").await, Err(CallError::InvalidRoom(_))));
    assert!(matches!(handle.park_alarm("no", "a").await, Err(CallError::UnknownParty(_))));
}

#[tokio::test(start_paused = true)]
async fn an_operator_parks_the_alarm_of_a_room_that_is_awake() {
    let (journal, backend) = (Journal::default(), Arc::new(MemoryBackend::default()));
    let handle = journal.runtime(&backend);
    handle.request("bell", "a", Request::new(Body::empty())).await.unwrap();
    handle.park_alarm("bell", "a").await.unwrap();
    sleep(1000 * SECOND).await;
    assert_eq!(journal.take(), ["start a"]);
    assert!(handle.alarm("bell", "a").await.unwrap().is_some_and(|alarm| alarm.rings.is_none()));
}

#[tokio::test(start_paused = true)]
async fn alarms_that_the_start_names_are_parked_before_any_rings() {
    let (journal, backend) = (Journal::default(), Arc::new(MemoryBackend::default()));
    let handle = journal.runtime(&backend);
    for room in ["a/b", "c", "d"] {
        journal.set(&handle, room).await;
    }
    handle.shutdown().await;
    sleep(100 * SECOND).await;
    let named = "bell/a%2Fb no/party nonsense";
    let builder = journal.builder(&backend).var("PARTYKIT_PARK_ALARMS", named);
    let handle = builder.park_alarm("bell", "c").build().unwrap().handle();
    sleep(10 * SECOND).await;
    assert_eq!(journal.take(), ["start d", "d rings 0-0"]);
    for room in ["a/b", "c"] {
        let alarm = handle.alarm("bell", room).await.unwrap().unwrap();
        assert_eq!(alarm.rings, None, "{room}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_the_shutdown_ends_rings_at_once_at_the_next_start() {
    let (journal, backend) = (Journal::default(), Arc::new(MemoryBackend::default()));
    let handle = journal.runtime(&backend);
    journal.stuck.store(true, Ordering::SeqCst);
    journal.set(&handle, "a").await;
    sleep(20 * SECOND).await;
    assert_eq!(journal.take(), ["start a", "a rings 0-0"]);
    let begin = Instant::now();
    handle.shutdown().await;
    assert!(begin.elapsed() < Duration::from_secs(60));
    drop(handle);
    journal.stuck.store(false, Ordering::SeqCst);
    let handle = journal.runtime(&backend);
    // Virtual time begins again with each runtime: it has to come as far as that of the one before.
    sleep(100 * SECOND).await;
    assert_eq!(journal.take(), ["start a", "a rings 0-0"], "neither a failure nor a death");
    assert_eq!(handle.alarm("bell", "a").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_in_the_handler_is_told_of_and_comes_back_later() {
    let (journal, backend) = (Journal::default(), Arc::new(MemoryBackend::default()));
    journal.stuck.store(true, Ordering::SeqCst);
    let handle = journal.runtime(&backend);
    journal.set(&handle, "a").await;
    sleep(11 * SECOND).await;
    let ringing = handle.alarm("bell", "a").await.unwrap().unwrap();
    assert!(ringing.ringing && ringing.rings > Some(ringing.scheduled + 2 * SECOND));
    journal.take();
    // Another process takes the store over; the one before does nothing any more that counts.
    journal.stuck.store(false, Ordering::SeqCst);
    let next = journal.runtime(&backend);
    sleep(100 * SECOND).await;
    assert_eq!(journal.take(), ["start a", "a rings 0-1"]);
    assert_eq!(next.alarm("bell", "a").await.unwrap(), None);
}
