use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use partykit_core::BackendError;
use tokio::sync::watch;
use tracing::{error, info};

use super::{
    Durability,
    claims::{Claims, Turn},
    engine::{Answers, Engine},
    error::{Fault, StoreError},
    guard::caught,
    home::{Facts, Home},
    options::StoreOptions,
    postponed::Postponed,
    queue::{Queue, Waiting, Work},
    tree::Tree,
    upkeep::REST,
};

/// A store that is [`Relaxed`](super::Durability::Relaxed) is synced at least once in this time, if something
/// was written.
const UNSYNCED: Duration = Duration::from_secs(1);

/// The pause before a failed store is opened again. It doubles after each try.
const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(5);

/// The directory is checked this often while there are no commits. A commit checks it before its answer.
const LOOK: Duration = Duration::from_secs(1);

/// What the writer shares with the callers.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) durability: Durability,
    pub(super) options: StoreOptions,
    pub(super) postponed: Arc<Postponed>,
    pub(super) queue: Queue,
    pub(super) claims: Claims,
    pub(super) state: watch::Sender<State>,
}

impl Shared {
    pub(super) fn new(
        path: &Path,
        durability: Durability,
        options: StoreOptions,
    ) -> Result<Arc<Self>, StoreError> {
        let absolute = std::path::absolute(path);
        Ok(Arc::new(Self {
            path: absolute.map_err(|error| Fault::Io("found", error).at(path))?,
            durability,
            options,
            postponed: Arc::default(),
            queue: Queue::default(),
            claims: Claims::default(),
            state: watch::Sender::new(State::Recovering),
        }))
    }
}

/// Whether the store can be read.
#[derive(Clone, Debug)]
pub(super) enum State {
    Open(Arc<Tree>),
    /// It has failed just now, and is being opened again.
    Recovering,
    /// It has failed, and could not be opened again. The next try comes after a pause.
    Failed(Arc<StoreError>),
    Closed,
}

impl Shared {
    pub(super) fn failed(&self, fault: Fault) -> BackendError {
        BackendError::Failed(fault.at(&self.path).into())
    }
}

/// The thread that writes. Every change of a file of the store begins here.
pub(super) struct Writer {
    shared: Arc<Shared>,
    store: Store,
    /// When to sync what was written, to rest, or to try again to open the store.
    until: Option<Instant>,
    last_commit: Instant,
    /// When to check next whether the directory is still there.
    look: Instant,
}

/// The store, as the writer has it.
enum Store {
    /// Only while the state changes from one to the other.
    Nothing,
    Open(Box<Engine>),
    Failed {
        home: Home,
        cause: Arc<StoreError>,
        rest: Duration,
    },
}

/// The result of a group of commits.
enum Outcome {
    Answers(Answers),
    /// The store has failed before.
    Refused(Arc<StoreError>),
    /// The store has failed.
    Failed(Fault),
}

impl Writer {
    /// Opens the store, or makes one.
    pub(super) fn open(shared: Arc<Shared>) -> Result<Self, Fault> {
        let mut home = Home::open(&shared.path)?;
        home.postponed = shared.postponed.clone();
        let now = Instant::now();
        let mut writer =
            Self { shared, store: Store::Nothing, until: None, last_commit: now, look: now };
        writer.begin_life(home)?;
        Ok(writer)
    }

    /// Writes until the queue is closed.
    pub(super) fn run(mut self) {
        // When this thread ends, also by a panic, no caller may go on waiting for it.
        let _end = End(self.shared.clone());
        loop {
            let turn = catch_unwind(AssertUnwindSafe(|| self.turn()));
            match turn {
                Ok(true) => {}
                Ok(false) => break,
                Err(payload) => {
                    self.shared.state.send_replace(State::Recovering);
                    self.shared.claims.end();
                    self.fail(Fault::panic(&*payload));
                }
            }
        }
        self.shared.state.send_replace(State::Recovering);
        let result = match self.store {
            Store::Open(engine) => caught(|| engine.close()),
            Store::Nothing => Ok(()),
            Store::Failed { home, .. } => {
                // The lock has to be free before `End` reports `Closed`: a caller may open the directory
                // right after that.
                drop(home);
                Ok(())
            }
        };
        if let Err(fault) = result {
            error!("{}", fault.at(&self.shared.path));
        }
    }

    /// Does the next piece of work. `false` if the queue is closed.
    fn turn(&mut self) -> bool {
        let now = Instant::now();
        if self.until.is_some_and(|until| until <= now) {
            self.wake();
        }
        if self.look <= now {
            self.look();
        }
        let until = self.until.map_or(self.look, |until| until.min(self.look));
        match self.shared.queue.next(Some(until)) {
            Work::Commits(commits) => self.commit(commits),
            Work::Fault(fault) => self.fail(fault),
            Work::Nothing => {}
            Work::End => return false,
        }
        true
    }

    fn commit(&mut self, commits: Vec<Waiting>) {
        let turns = self.shared.claims.begin(commits.iter().map(|one| (&one.room, one.epoch)));
        let (mut group, mut later) = (Vec::with_capacity(commits.len()), Vec::new());
        for (commit, turn) in commits.into_iter().zip(turns) {
            match turn {
                Turn::Begins => group.push(commit),
                Turn::IsLater => later.push(commit),
                Turn::IsStale => {
                    let epoch = commit.epoch;
                    commit.answer(Err(BackendError::StaleEpoch(epoch)));
                }
            }
        }
        // Invariant: a group has at most one commit of a room, and a room's commits keep their order. The
        // later ones go with the next group.
        self.shared.queue.put_back(later.into_iter());
        self.last_commit = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.write(&group)));
        let outcome = outcome.unwrap_or_else(|payload| Outcome::Failed(Fault::panic(&*payload)));
        if matches!(outcome, Outcome::Failed(_)) {
            // Invariant: this comes before the rooms are free. A new claim must not read before it is known
            // what is on disk.
            self.shared.state.send_replace(State::Recovering);
        }
        self.shared.claims.end();
        let refuse = |group: Vec<Waiting>, cause: &Arc<StoreError>| {
            for commit in group {
                commit.answer(Err(BackendError::Failed(cause.clone().into())));
            }
        };
        match outcome {
            Outcome::Answers(answers) => {
                group.into_iter().zip(answers).for_each(|(commit, answer)| commit.answer(answer));
            }
            Outcome::Refused(cause) => refuse(group, &cause),
            Outcome::Failed(fault) => {
                let cause = Arc::new(fault.at(&self.shared.path));
                refuse(group, &cause);
                self.recover(&cause);
            }
        }
    }

    fn write(&mut self, group: &[Waiting]) -> Outcome {
        match &mut self.store {
            Store::Nothing => Outcome::Failed(Fault::damage("it was not opened")),
            Store::Open(engine) => match engine.commit(group) {
                Ok(answers) => {
                    if self.until.is_none() && (!engine.is_synced() || engine.wants_rest()) {
                        self.until = Some(Instant::now() + UNSYNCED);
                    }
                    Outcome::Answers(answers)
                }
                Err(fault) => Outcome::Failed(fault),
            },
            Store::Failed { cause, .. } => Outcome::Refused(cause.clone()),
        }
    }

    fn begin_life(&mut self, mut home: Home) -> Result<(), Fault> {
        let facts = home.facts();
        let incarnation = facts.incarnation + 1;
        // Invariant: this number is on disk before the first claim, so that no epoch of an earlier process is
        // given again.
        home.write(Facts { incarnation, ..facts })?;
        self.shared.claims.begin_life(incarnation);
        let engine = self.open_engine(home).map_err(|(_, fault)| fault)?;
        self.has_opened(engine);
        Ok(())
    }

    fn open_engine(&self, home: Home) -> Result<Engine, (Home, Fault)> {
        let shared = self.shared.clone();
        let options = self.shared.options.clone();
        let failed = move |fault| shared.queue.report(fault);
        Engine::open(home, self.shared.durability, options, failed)
    }

    fn has_opened(&mut self, engine: Engine) {
        self.shared.state.send_replace(State::Open(engine.tree().clone()));
        self.store = Store::Open(Box::new(engine));
        self.until = None;
    }

    /// Called when `until` is reached. Syncs, rests, or tries to open the store again.
    fn wake(&mut self) {
        self.until = None;
        match &mut self.store {
            Store::Nothing => {}
            Store::Open(engine) => {
                let is_at_rest = self.last_commit.elapsed() >= REST;
                let result = match engine.wants_rest() {
                    true if is_at_rest => caught(|| engine.rest()),
                    wants_rest => {
                        self.until = wants_rest.then(|| self.last_commit + REST);
                        caught(|| engine.sync())
                    }
                };
                if let Err(fault) = result {
                    self.fail(fault);
                }
            }
            Store::Failed { cause, .. } => {
                let cause = cause.clone();
                self.recover(&cause);
            }
        }
    }

    /// Reports a moved directory at once, even while there are no commits.
    fn look(&mut self) {
        self.look = Instant::now() + LOOK;
        if let Store::Open(engine) = &self.store
            && let Err(fault) = engine.check()
        {
            self.fail(fault);
        }
    }

    fn fail(&mut self, fault: Fault) {
        if let Store::Open(_) = self.store {
            self.shared.state.send_replace(State::Recovering);
            self.recover(&fault.at(&self.shared.path));
        }
    }

    /// Opens the store again, or waits until the next try.
    fn recover(&mut self, cause: &StoreError) {
        let (home, rest) = match std::mem::replace(&mut self.store, Store::Nothing) {
            Store::Nothing => return,
            Store::Open(engine) => {
                error!("{cause}; opening the store again");
                (engine.into_home(), FIRST_REST)
            }
            Store::Failed { home, rest, .. } => (home, (rest * 2).min(LONGEST_REST)),
        };
        // The engine that reported a fault is closed: its fault must not hit the next one.
        self.shared.queue.clear_fault();
        match self.open_engine(home) {
            Ok(engine) => {
                info!("the store in {} is open again", self.shared.path.display());
                self.has_opened(engine);
            }
            Err((home, fault)) => {
                let cause = Arc::new(fault.at(&self.shared.path));
                error!("{cause}; trying again in {rest:?}");
                self.shared.state.send_replace(State::Failed(cause.clone()));
                self.store = Store::Failed { home, cause, rest };
                self.until = Some(Instant::now() + rest);
            }
        }
    }
}

/// Ends the store for all who use it, also when the writer panics.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.queue.close();
        self.0.queue.clear();
        self.0.claims.end();
        self.0.state.send_replace(State::Closed);
    }
}
