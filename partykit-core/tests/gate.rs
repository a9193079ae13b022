//! What anyone was told is durable: whole rooms over a store that is late and fails, with a crash at
//! any moment.
//!
//! The server keeps a log of the handlers that succeeded and tells everybody the whole log each time.
//! A log that a client has seen must be a prefix of the stored one at every later moment: whatever
//! crashes then, the next room reads what is stored.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_executor::block_on;
use partykit_core::{
    Backend, BackendError, Batch, Body, Connection, Epoch, List, MemoryBackend, Message, Options,
    Request, Response, Result, Room, RoomAddress, RoomId, Server,
    testing::{FaultyBackend, TestConnection, TestRoom, WrappedBackend},
};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestCaseResult, TestError, TestRng, TestRunner},
};

type Log = Vec<u32>;

#[test]
fn what_anyone_was_told_survives_every_crash() {
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    if let Err(error) = tell_stories(&mut runner, Mode::Honest) {
        panic!("{error}");
    }
}

#[test]
fn a_store_that_forgets_commits_is_noticed() {
    let config = Config { failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let told = tell_stories(&mut runner, Mode::Forgetful);
    assert!(matches!(told, Err(TestError::Fail(..))), "nobody notices: {told:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Join,
    /// Somebody has the server do something.
    Say(u8, Act),
    /// The same, and nothing has time to happen before the next step.
    Push(u8, Act),
    Request,
    Leave(u8),
    Hibernate,
    /// Commits wait: before they are stored, or when they are and the room does not know it yet.
    Hold {
        stored: bool,
    },
    Release,
    FailCommit {
        stored: bool,
    },
    Pass,
    Crash,
}

/// What the server's handler does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Add,
    /// Adds, then waits until that is durable, then adds once more.
    AddTwice,
    /// Adds, tells everybody, and fails.
    Fail,
    Panic,
    /// Adds in a transaction that is rolled back, and once more outside of it.
    RollBack,
    /// Only tells everybody.
    Tell,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Join),
        8 => (any::<u8>(), act()).prop_map(|(client, act)| Step::Say(client, act)),
        8 => (any::<u8>(), act()).prop_map(|(client, act)| Step::Push(client, act)),
        3 => Just(Step::Request),
        2 => any::<u8>().prop_map(Step::Leave),
        2 => Just(Step::Hibernate),
        4 => any::<bool>().prop_map(|stored| Step::Hold { stored }),
        4 => Just(Step::Release),
        2 => any::<bool>().prop_map(|stored| Step::FailCommit { stored }),
        2 => Just(Step::Pass),
        3 => Just(Step::Crash),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => Just(Act::Add),
        2 => Just(Act::AddTwice),
        2 => Just(Act::Fail),
        1 => Just(Act::Panic),
        2 => Just(Act::RollBack),
        2 => Just(Act::Tell),
    ]
}

fn tell_stories(runner: &mut TestRunner, mode: Mode) -> Result<(), TestError<(Vec<Step>, u64)>> {
    runner.run(&(prop::collection::vec(step(), 1..40), any::<u64>()), |(steps, seed)| {
        block_on(tell(&steps, seed, mode))
    })
}

async fn tell(steps: &[Step], seed: u64, mode: Mode) -> TestCaseResult {
    let mut story = Story::new(seed, mode);
    for step in steps {
        story.take(step).await;
        story.check().await?;
    }
    story.store.release();
    story.room.settle().await;
    story.check().await
}

struct Story {
    room: TestRoom<Keeper>,
    faults: FaultyBackend<Store>,
    store: Store,
    history: Arc<Mutex<History>>,
    clients: Vec<TestConnection>,
    told: Vec<Log>,
}

/// What the handlers did, the failed ones included.
#[derive(Default)]
struct History {
    last: u32,
    /// Every log that a handler left behind when it succeeded, or that it synced.
    produced: HashSet<Log>,
}

impl Story {
    fn new(seed: u64, mode: Mode) -> Self {
        let store = Store::new(mode);
        let faults = FaultyBackend::new(store.clone(), seed).delay(0..=3).fail_commits(0.05);
        let history = Arc::new(Mutex::new(History::default()));
        history.lock().unwrap().produced.insert(Log::new());
        let room = {
            let history = history.clone();
            let make = move |_: &RoomId| Keeper { history: history.clone() };
            let builder = partykit_core::testing::TestRoomBuilder::new(make);
            builder.backend(Arc::new(faults.clone())).seed(seed).build()
        };
        Self { room, faults, store, history, clients: Vec::new(), told: Vec::new() }
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Join => {
                let request = request();
                if let Ok(client) = self.room.try_connect("client", request).await {
                    self.clients.push(client);
                }
            }
            Step::Say(client, act) => {
                self.push(*client, *act);
                self.room.settle().await;
            }
            Step::Push(client, act) => self.push(*client, *act),
            Step::Request => {
                // Its answer may wait for a commit that is held: nobody waits for it here.
                let _ = self.room.tell(request()).await;
            }
            Step::Leave(client) if !self.clients.is_empty() => {
                let client = usize::from(*client) % self.clients.len();
                let client = self.clients.swap_remove(client);
                client.vanish().await;
                self.hear(&client);
            }
            Step::Hibernate => drop(self.room.hibernate().await),
            Step::Hold { stored: false } => self.faults.hold_commits(),
            Step::Hold { stored: true } => self.store.hold(),
            Step::Release => {
                self.faults.release_commits();
                self.store.release();
                self.room.settle().await;
            }
            Step::FailCommit { stored: false } => self.faults.fail_next_commit(),
            Step::FailCommit { stored: true } => self.faults.fail_next_commit_applied(),
            Step::Pass => self.room.advance(Duration::from_secs(11)).await,
            Step::Crash => {
                for client in std::mem::take(&mut self.clients) {
                    self.hear(&client);
                }
                self.room.crash().await;
            }
            Step::Leave(_) => {}
        }
    }

    fn push(&self, client: u8, act: Act) {
        let open: Vec<_> = self.clients.iter().filter(|client| client.is_open()).collect();
        if !open.is_empty() {
            open[usize::from(client) % open.len()].push(format!("{act:?}"));
        }
    }

    fn hear(&mut self, client: &TestConnection) {
        let logs = client.received().into_iter().map(|message| message.json().expect("a log"));
        self.told.extend(logs);
    }

    async fn check(&mut self) -> TestCaseResult {
        let clients = std::mem::take(&mut self.clients);
        clients.iter().for_each(|client| self.hear(client));
        self.clients = clients;

        let rows = self.room.rows(List::new()).await;
        let row = |name| rows.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let stored: Log =
            row("log").map_or_else(Log::new, |log| serde_json::from_slice(log).unwrap());
        let count = row("count").map_or(0, |count| serde_json::from_slice(count).unwrap());
        prop_assert_eq!(stored.len(), count, "half of a batch is stored");
        let is_produced = self.history.lock().unwrap().produced.contains(&stored);
        prop_assert!(is_produced, "no successful handler left {:?}", stored);
        for told in &self.told {
            prop_assert!(stored.starts_with(told), "{told:?} was told, {stored:?} is stored");
        }
        Ok(())
    }
}

/// Keeps the log.
struct Keeper {
    history: Arc<Mutex<History>>,
}

impl Server for Keeper {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_connect(&mut self, room: &Room, _: &Connection, _: &Request) -> Result {
        self.add(room).await?;
        self.succeed(room).await
    }

    async fn on_message(&mut self, room: &Room, _: &Connection, message: Message) -> Result {
        match message.as_text().unwrap_or_default() {
            "Add" => drop(self.add(room).await?),
            "AddTwice" => {
                self.add(room).await?;
                self.succeed(room).await?;
                room.storage().sync().await?;
                self.add(room).await?;
            }
            "Fail" => {
                self.add(room).await?;
                return Err("planned".into());
            }
            "Panic" => {
                self.add(room).await?;
                panic!("planned");
            }
            "RollBack" => {
                let storage = room.storage();
                let rolled_back = storage.transaction(async |_| {
                    self.add(room).await?;
                    Err::<(), partykit_core::BoxError>("planned".into())
                });
                assert!(rolled_back.await.is_err());
                self.add(room).await?;
            }
            _ => self.tell(room).await?,
        }
        self.succeed(room).await
    }

    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        self.add(room).await?;
        self.succeed(room).await?;
        Ok(Response::new(Body::empty()))
    }
}

impl Keeper {
    /// Writes, and tells everybody what is written.
    async fn add(&self, room: &Room) -> Result {
        let mut log: Log = room.storage().get("log").await?.unwrap_or_default();
        {
            let mut history = self.history.lock().unwrap();
            history.last += 1;
            log.push(history.last);
        }
        room.storage().put("log", &log)?;
        room.storage().put("count", &log.len())?;
        self.tell(room).await
    }

    async fn tell(&self, room: &Room) -> Result {
        let log: Log = room.storage().get("log").await?.unwrap_or_default();
        room.broadcast_json(&log)?.send();
        Ok(())
    }

    /// The handler succeeds now: what it leaves may be stored.
    async fn succeed(&self, room: &Room) -> Result {
        let log: Log = room.storage().get("log").await?.unwrap_or_default();
        self.history.lock().unwrap().produced.insert(log);
        Ok(())
    }
}

/// A store that may hold a commit back after it is stored, and one that forgets commits.
#[derive(Clone)]
struct Store {
    inner: Arc<MemoryBackend>,
    mode: Mode,
    held: Arc<Mutex<Option<Vec<futures_channel::oneshot::Sender<()>>>>>,
    commits: Arc<AtomicU8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Honest,
    /// Every third commit is reported as stored, and is not.
    Forgetful,
}

impl Store {
    fn new(mode: Mode) -> Self {
        Self { inner: Arc::default(), mode, held: Arc::default(), commits: Arc::default() }
    }

    fn hold(&self) {
        self.held.lock().unwrap().get_or_insert_default();
    }

    fn release(&self) {
        drop(self.held.lock().unwrap().take());
    }
}

#[async_trait]
impl WrappedBackend for Store {
    type Inner = MemoryBackend;

    fn inner(&self) -> &MemoryBackend {
        &self.inner
    }

    async fn committing(
        &self,
        room: &RoomAddress,
        epoch: Epoch,
        batch: Batch,
    ) -> Result<(), BackendError> {
        let commits = self.commits.fetch_add(1, Ordering::SeqCst);
        if self.mode == Mode::Honest || commits % 3 != 2 {
            self.inner.commit(room, epoch, batch).await?;
        }
        let released = self.held.lock().unwrap().as_mut().map(|held| {
            let (release, released) = futures_channel::oneshot::channel();
            held.push(release);
            released
        });
        if let Some(released) = released {
            // To drop the sender is the signal.
            let _ = released.await;
        }
        Ok(())
    }
}

fn request() -> Request {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = "/parties/main/room".parse().expect("a path");
    request
}
