//! Rooms that sleep without connections are rows on disk and nothing else, and so are alarms that are not
//! due.

#[path = "store/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the store")]
mod support;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use partykit_core::{
    Backend, Body, Options, Request, Response, Result, Room, RoomId, Server, Timestamp,
    testing::{FaultyBackend, alarm_batch},
};
use partykit_runtime_tokio::{
    Handle, Runtime,
    store::{DiskBackend, Durability},
};
use tokio::{task::yield_now, time::timeout};

use support::{address, directory};

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(60);

/// What the task that rings alarms reads of the store at once.
const PAGE: usize = 64;

const AT_ONCE: usize = 128;

/// Counts its visits, and says how many wake-ups were read before a room first started.
struct Guest {
    store: FaultyBackend<DiskBackend>,
    before_start: Arc<AtomicUsize>,
}

impl Server for Guest {
    fn options() -> Options {
        Options::new().hibernate(true).hibernate_after(Duration::ZERO)
    }

    async fn on_start(&mut self, _: &Room) -> Result {
        let read = self.store.wake_ups_given();
        let _ = self.before_start.compare_exchange(0, read, Ordering::SeqCst, Ordering::SeqCst);
        Ok(())
    }

    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        let visits = room.storage().get("visits").await?.unwrap_or(0) + 1;
        room.storage().put("visits", &visits)?;
        Ok(Response::new(visits.to_string().into()))
    }
}

#[test]
fn nothing_is_in_memory_of_rooms_that_were_written_once() {
    const ROOMS: usize = 2000;
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let directory = directory();
    let store = open(directory.path());
    tokio.block_on(async {
        let Inn { handle, .. } = Inn::open(&store);
        let tasks = || tokio.metrics().num_alive_tasks();
        let before = tasks();
        for visits in ["1", "2"] {
            let rooms = stream::iter(0..ROOMS).map(|room| visit(&handle, room));
            let answers = rooms.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
            assert_eq!(answers, vec![visits; ROOMS], "each sleeps, and is not lost");
            let left = || (handle.stats().parties["main"].rooms, claims(&store), tasks());
            eventually(|| left() == (0, 0, before), || format!("{:?}", left())).await;
        }
        let room = address("held");
        let claim = store.claim(&room).await.unwrap();
        assert_eq!(claims(&store), 1, "what is there would be seen");
        store.release(&room, claim.epoch);
    });
}

#[test]
fn alarms_that_are_not_due_are_not_read_and_cost_no_task() {
    let start = |alarms: usize| {
        let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        tokio.block_on(async {
            let (directory, nowhere) = (directory(), directory());
            let before = open(directory.path());
            let pending = stream::iter(1..=alarms).map(|room| set(&before, room, false));
            pending.buffer_unordered(AT_ONCE).collect::<()>().await;
            set(&before, 0, true).await;
            before.close().await;

            let tasks = || tokio.metrics().num_alive_tasks();
            let _without_any = Inn::open(&open(nowhere.path()));
            let of_one_runtime = tasks();
            let inn = Inn::open(&open(directory.path()));
            let left = || (inn.handle.stats().parties["main"].rooms, tasks());
            let read = || inn.before_start.load(Ordering::SeqCst);
            let is_over = || read() > 0 && left() == (0, 2 * of_one_runtime);
            eventually(is_over, || format!("{} read, {:?}", read(), left())).await;
            read()
        })
    };
    // A page for the look that finds the one that is due, and one for the look after its attempt is stored,
    // unless the task looks only once for both.
    for alarms in [2 * PAGE, 5000] {
        let read = start(alarms);
        assert!(
            read <= 2 * PAGE,
            "{read} entries of {alarms} were read until the one that is due rang"
        );
    }
}

/// A runtime whose store counts the wake-ups that are read.
struct Inn {
    handle: Handle,
    before_start: Arc<AtomicUsize>,
}

impl Inn {
    fn open(store: &DiskBackend) -> Self {
        let before_start = Arc::<AtomicUsize>::default();
        let backend = FaultyBackend::new(store.clone(), 1);
        let (counted, guest) = (backend.clone(), before_start.clone());
        let make = move |_: &RoomId| Guest { store: counted.clone(), before_start: guest.clone() };
        let builder = Runtime::builder().party_with("main", make).backend(Arc::new(backend));
        Self { handle: builder.build().unwrap().handle(), before_start }
    }
}

fn open(directory: &Path) -> DiskBackend {
    DiskBackend::open(directory.join("data"), Durability::Relaxed).unwrap()
}

async fn visit(handle: &Handle, room: usize) -> String {
    let answer = handle.request("main", &room.to_string(), Request::new(Body::empty())).await;
    String::from_utf8(answer.unwrap().into_body().bytes().unwrap().to_vec()).unwrap()
}

/// Sets when a room is to be woken: long ago, or in a long time.
async fn set(store: &DiskBackend, room: usize, is_due: bool) {
    let at = Timestamp::from_millis(if is_due { 1 } else { u64::MAX / 2 + room as u64 });
    let batch = alarm_batch(at);
    support::write(store, &address(room.to_string()), batch).await.unwrap();
}

/// How many rooms somebody holds.
fn claims(store: &DiskBackend) -> usize {
    let shown = format!("{store:?}");
    let (_, behind) = shown.split_once("claims: ").unwrap();
    behind.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// Waits until it holds.
async fn eventually(holds: impl Fn() -> bool, what: impl Fn() -> String) {
    let wait = async {
        while !holds() {
            yield_now().await;
        }
    };
    assert!(timeout(NEVER, wait).await.is_ok(), "it never happens: {}", what());
}
