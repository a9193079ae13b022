use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{error::Fault, log, replay::Mark, rig, tree::Tree};

/// How many parts of the tree may wait for their way to a file before commits wait too.
const WAITING: usize = 2;

/// After how long without work the tree's past is dropped.
const REST: Duration = Duration::from_secs(1);

/// Writes the tree's files, beside the commits: a thread.
pub(super) struct Upkeep {
    marks: Option<mpsc::Sender<Mark>>,
    thread: Option<JoinHandle<()>>,
    state: Arc<(Mutex<State>, Condvar)>,
    is_ending: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    waiting: usize,
    has_failed: bool,
}

impl Upkeep {
    /// `failed` is called at most once, and nothing is done any more then.
    pub(super) fn start(
        tree: Arc<Tree>,
        log: PathBuf,
        failed: impl Fn(Fault) + Send + 'static,
    ) -> Result<Self, Fault> {
        let (marks, todo) = mpsc::channel::<Mark>();
        let state = Arc::new((Mutex::<State>::default(), Condvar::new()));
        let is_ending = Arc::new(AtomicBool::new(false));
        let (shared, ending) = (state.clone(), is_ending.clone());
        let work = move || {
            let mut result = merge(&tree, &ending);
            while result.is_ok() {
                match next(&tree, &todo) {
                    Ok(None) => break,
                    Ok(Some(mark)) => {
                        result = flush(&tree, &log, mark);
                        lock(&shared.0).waiting -= 1;
                        shared.1.notify_all();
                        result = result.and_then(|()| merge(&tree, &ending));
                    }
                    Err(fault) => result = Err(fault),
                }
            }
            if let Err(fault) = result {
                lock(&shared.0).has_failed = true;
                shared.1.notify_all();
                failed(fault);
            }
        };
        let thread = thread::Builder::new().name("partykit-files".into()).spawn(work);
        let thread = thread.map_err(Fault::io("opened"))?;
        Ok(Self { marks: Some(marks), thread: Some(thread), state, is_ending })
    }

    /// Has a sealed part of the tree written, and then the files of the log removed that it makes
    /// superfluous.
    pub(super) fn flush(&self, mark: Mark) {
        lock(&self.state.0).waiting += 1;
        if let Some(marks) = &self.marks {
            // Its thread has failed if it is not there, and has said so.
            let _ = marks.send(mark);
        }
    }

    /// Waits until there is not too much to do, or no hope.
    pub(super) fn catch_up(&self) {
        let state = lock(&self.state.0);
        let is_behind = |state: &mut State| state.waiting >= WAITING && !state.has_failed;
        drop(self.state.1.wait_while(state, is_behind));
    }
}

impl Drop for Upkeep {
    /// Ends the thread, after what it is just doing.
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Release);
        self.marks = None;
        if let Some(thread) = self.thread.take() {
            // It panics nowhere; if it did, there would be nothing more to do than to end.
            let _ = thread.join();
        }
    }
}

/// Waits for something to do. After a while without, nobody looks at the tree any more as it was when its
/// files were written last: what was kept for that goes, a part of it in memory.
fn next(tree: &Tree, todo: &mpsc::Receiver<Mark>) -> Result<Option<Mark>, Fault> {
    match todo.recv_timeout(REST) {
        Ok(mark) => Ok(Some(mark)),
        Err(mpsc::RecvTimeoutError::Disconnected) => Ok(None),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            tree.forget()?;
            Ok(todo.recv().ok())
        }
    }
}

fn flush(tree: &Tree, log: &std::path::Path, mark: Mark) -> Result<(), Fault> {
    rig::before_flush(log, mark.file).map_err(Fault::io("cleaned up"))?;
    tree.flush()?;
    log::remove(log, |file| file <= mark.file).map_err(Fault::io("cleaned up"))
}

fn merge(tree: &Tree, is_ending: &AtomicBool) -> Result<(), Fault> {
    while !is_ending.load(Ordering::Acquire) && tree.merge()? {}
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Upkeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upkeep").field("waiting", &lock(&self.state.0).waiting).finish()
    }
}
