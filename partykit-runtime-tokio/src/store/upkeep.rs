use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    collect,
    error::Fault,
    guard::{caught, lock},
    home::Home,
    log,
    options::StoreOptions,
    place::Place,
    postponed::Postponed,
    replay::Mark,
    rig,
    tree::Tree,
};

/// After this time without new files, deleted rows are removed from the files.
pub(super) const REST: Duration = Duration::from_secs(1);

/// When this many runs of files wait to be merged, commits are slowed down; at twice this number they wait.
/// Otherwise every read would have to look into too many runs.
const TOO_MANY: usize = 12;

/// A commit is delayed by this much for each run above the limit.
const DELAY: Duration = Duration::from_millis(1);

/// Writes and merges the tree's files, beside the commits. One thread writes memory to files, another one
/// merges files, so memory never waits for a long merge.
pub(super) struct Upkeep {
    tree: Arc<Tree>,
    marks: Option<mpsc::Sender<Mark>>,
    threads: Vec<JoinHandle<()>>,
    postponed: Arc<Postponed>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    is_ending: AtomicBool,
}

#[derive(Default)]
struct State {
    /// How many parts of memory wait to be written to a file.
    waiting: usize,
    /// New files have come since the last merge began.
    has_news: bool,
    is_merging: bool,
    has_failed: bool,
}

impl Upkeep {
    /// Starts both threads. `failed` is called at most once; after that, nothing is done any more.
    pub(super) fn start(
        tree: Arc<Tree>,
        home: &Home,
        failed: impl Fn(Fault) + Send + 'static,
    ) -> Result<Self, Fault> {
        let (log, place, postponed) = (home.log(), home.place(), home.postponed.clone());
        let (marks, todo) = mpsc::channel();
        let shared = Arc::<Shared>::default();
        lock(&shared.state).has_news = true;
        // Either thread may fail, and the other one must not wait for it.
        let failed = Arc::new(Mutex::new(Some(failed)));
        let end = {
            let shared = shared.clone();
            move |result: Result<(), Fault>| {
                if let Err(fault) = result {
                    lock(&shared.state).has_failed = true;
                    shared.is_ending.store(true, Ordering::Release);
                    shared.changed.notify_all();
                    if let Some(failed) = lock(&failed).take() {
                        failed(fault);
                    }
                }
            }
        };
        let mut upkeep = Self {
            tree: tree.clone(),
            marks: Some(marks),
            threads: Vec::new(),
            postponed: postponed.clone(),
            shared,
        };
        let merged = place.clone();
        let (written, shared, ended) = (tree.clone(), upkeep.shared.clone(), end.clone());
        upkeep.spawn("partykit-files", move || {
            ended(caught(|| write(&written, &log, &place, &todo, &shared)));
        })?;
        let shared = upkeep.shared.clone();
        upkeep.spawn("partykit-merge", move || {
            end(caught(|| merge(&tree, &merged, &postponed, &shared)));
        })?;
        Ok(upkeep)
    }

    /// Writes a sealed part of the tree to a file, then removes the files of the log that are not needed any
    /// more.
    pub(super) fn flush(&self, mark: Mark) {
        lock(&self.shared.state).waiting += 1;
        if let Some(marks) = &self.marks {
            // If the receiver is gone, its thread has failed and has reported the fault.
            let _ = marks.send(mark);
        }
    }

    /// Waits until the threads have caught up. Returns at once if they have failed.
    pub(super) fn catch_up(&self) {
        let state = lock(&self.shared.state);
        let is_behind = |state: &mut State| {
            // Commits do not wait for a merge that has no space.
            let is_resting = self.postponed.is_waiting();
            let is_full = state.waiting >= StoreOptions::waiting();
            // If nothing is merged, there is nothing to wait for, even with too many files.
            let is_behind =
                state.is_merging && !is_resting && self.tree.fresh_files() >= 2 * TOO_MANY;
            (is_full || is_behind) && !state.has_failed
        };
        drop(self.shared.changed.wait_while(state, is_behind));
    }

    /// Slows commits down a little if merges are behind, so that they need not stop later.
    pub(super) fn slow_down(&self) {
        let excess = self.tree.fresh_files().saturating_sub(TOO_MANY).min(TOO_MANY);
        if excess > 0 && !self.postponed.is_waiting() {
            thread::sleep(DELAY * excess as u32);
        }
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
        let thread = thread::Builder::new().name(name.into()).spawn(work);
        self.threads.push(thread.map_err(Fault::io("opened"))?);
        Ok(())
    }
}

impl Drop for Upkeep {
    /// Ends the threads after their current work.
    fn drop(&mut self) {
        {
            let _state = lock(&self.shared.state);
            self.shared.is_ending.store(true, Ordering::Release);
        }
        self.shared.changed.notify_all();
        self.marks = None;
        for thread in self.threads.drain(..) {
            // An error means that the thread has panicked. There is nothing left to do then.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Pauses for this time. Returns early if the store is closed.
    fn rest(&self, time: Duration) {
        self.changed.notify_all();
        let state = lock(&self.state);
        let goes_on = |_: &mut State| !self.is_ending();
        drop(self.changed.wait_timeout_while(state, time, goes_on));
    }

    fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }
}

fn write(
    tree: &Tree,
    log: &Path,
    place: &Place,
    todo: &mpsc::Receiver<Mark>,
    shared: &Shared,
) -> Result<(), Fault> {
    while let Ok(mark) = todo.recv() {
        if shared.is_ending() {
            break;
        }
        // The engine writes by path. So the path must still name this directory, not another one in its
        // place.
        place.check()?;
        rig::before_flush(log, mark.file).map_err(Fault::io("cleaned up"))?;
        tree.flush()?;
        log::remove(log, |file| file <= mark.file).map_err(Fault::io("cleaned up"))?;
        let mut state = lock(&shared.state);
        state.waiting -= 1;
        state.has_news = true;
        drop(state);
        shared.changed.notify_all();
    }
    Ok(())
}

/// Merges files as they come. After [`REST`] without new files, it removes deleted rows that still take space.
fn merge(tree: &Tree, place: &Place, postponed: &Postponed, shared: &Shared) -> Result<(), Fault> {
    let cleared = collect::find(&tree.files())?;
    lock(tree.to_collect()).rooms.extend(cleared);
    let mut is_tidy = false;
    let mut is_seen = false;
    loop {
        lock(&shared.state).is_merging = true;
        while !shared.is_ending() {
            place.check()?;
            match tree.merge() {
                Ok(true) => postponed.end(),
                Ok(false) => {
                    postponed.end();
                    break;
                }
                Err(Fault::NoSpace(error)) => {
                    shared.rest(postponed.again(place.path(), &error));
                    continue;
                }
                Err(fault) => return Err(fault),
            }
            shared.changed.notify_all();
        }
        let mut state = lock(&shared.state);
        state.is_merging = false;
        shared.changed.notify_all();
        while !state.has_news && !shared.is_ending() {
            if is_tidy && !is_seen {
                state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = shared.changed.wait_timeout(state, REST);
            let (after, time) = waited.unwrap_or_else(PoisonError::into_inner);
            state = after;
            if time.timed_out() {
                drop(state);
                is_seen = tree.forget();
                if !is_tidy {
                    place.check()?;
                    match collect::tidy(tree, &|| shared.is_ending()) {
                        Ok(()) => postponed.end(),
                        Err(Fault::NoSpace(error)) => {
                            shared.rest(postponed.again(place.path(), &error));
                            state = lock(&shared.state);
                            continue;
                        }
                        Err(fault) => return Err(fault),
                    }
                    is_tidy = true;
                    is_seen = tree.forget();
                }
                state = lock(&shared.state);
            }
        }
        state.has_news = false;
        drop(state);
        if shared.is_ending() {
            return Ok(());
        }
        is_tidy = false;
    }
}

impl fmt::Debug for Upkeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = lock(&self.shared.state).waiting;
        f.debug_struct("Upkeep").field("waiting", &waiting).finish_non_exhaustive()
    }
}
