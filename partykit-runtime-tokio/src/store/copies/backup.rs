use std::{
    collections::HashMap,
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    super::{
        DiskBackend,
        error::Fault,
        home::{self, Facts, sync_dir},
        log,
        replay::{Mark, replay},
    },
    CopyError, Progress, Stage, Teller, Verification,
    error::of_store,
    list::{CURRENT, List, Listed, TABLES},
    partial::{Partial, check_place},
    verify,
    view::{self, View},
};

/// How a backup is made.
///
/// ```
/// use partykit_runtime_tokio::store::BackupOptions;
///
/// let elsewhere = BackupOptions::new()
///     .hard_links(false)
///     .progress(|progress| eprintln!("{progress}"));
/// # let _ = elsewhere;
/// ```
pub struct BackupOptions {
    verify: bool,
    hard_links: bool,
    progress: Box<dyn FnMut(Progress) + Send>,
}

impl BackupOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self { verify: true, hard_links: true, progress: Box::new(|_| ()) }
    }

    /// Whether the copy is checked like [`verify`](super::verify) does, before it gets its name. The check
    /// reads the whole copy. Default: yes.
    #[must_use]
    pub fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// Whether files that never change are hard links to the store's files instead of copies, if the file
    /// system allows it. Such a backup is fast and takes almost no space, but it is on the same disk as the
    /// store. Default: yes.
    #[must_use]
    pub fn hard_links(mut self, hard_links: bool) -> Self {
        self.hard_links = hard_links;
        self
    }

    /// Reports the progress of the backup, on a thread of its own. Default: no report.
    #[must_use]
    pub fn progress(mut self, progress: impl FnMut(Progress) + Send + 'static) -> Self {
        self.progress = Box::new(progress);
        self
    }
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for BackupOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupOptions")
            .field("verify", &self.verify)
            .field("hard_links", &self.hard_links)
            .finish_non_exhaustive()
    }
}

/// A backup that was made.
///
/// ```
/// use partykit_runtime_tokio::store::Backup;
///
/// fn line(backup: &Backup) -> String {
///     format!("{} has the commits up to {}", backup.path.display(), backup.commit)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// The directory.
    pub path: PathBuf,
    /// The number of the last commit in the backup. The backup has all commits up to this one, and no later
    /// one.
    pub commit: u64,
    /// How many files are shared with the store.
    pub linked: u64,
    /// How many files were copied.
    pub copied: u64,
    /// The bytes of all files, shared ones included.
    pub bytes: u64,
    /// The result of the check, without findings. `None` if [`BackupOptions::verify`] is off.
    pub verification: Option<Verification>,
}

impl DiskBackend {
    /// Copies the store into a new directory while it is in use.
    ///
    /// The copy is the store at one moment between the call and its end. It has every commit that was
    /// answered before the call, and no half commits. It is a complete store and opens like any other. It is
    /// written under the name of `to` with `.partial` at the end, synced, checked, and then renamed to `to`.
    /// So a directory with that name is complete. Commits go on meanwhile and do not wait for the copy.
    ///
    /// Dropping the future stops the backup and removes the partial copy. A killed process can leave a
    /// directory with the name `.partial`; the next backup to the same path removes it.
    ///
    /// ```
    /// # use partykit_core::{Backend, Batch, RoomAddress, RoomId};
    /// use partykit_runtime_tokio::store::{BackupOptions, DiskBackend, Durability};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> partykit_core::Result {
    /// # let directory = tempfile::tempdir()?;
    /// # let (data, monday) = (directory.path().join("data"), directory.path().join("monday"));
    /// let store = DiskBackend::open(&data, Durability::Durable)?;
    /// # let room = RoomAddress::new("chat", RoomId::new("lobby")?);
    /// # let epoch = store.claim(&room).await?.epoch;
    /// # let writes = [("topic".into(), Some("rust".into()))].into();
    /// # store.commit(&room, epoch, Batch { writes, ..Batch::default() }).await?;
    /// let backup = store.backup(&monday, BackupOptions::new()).await?;
    /// assert_eq!(backup.verification.map(|found| found.rows), Some(1));
    ///
    /// let copy = DiskBackend::open(&monday, Durability::Durable)?;
    /// assert_eq!(copy.read(&room, &["topic".into()]).await?, [Some("rust".into())]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When `to` exists, lies inside the store, or its parent does not exist; when the store is damaged or
    /// has failed, or the copy cannot be written.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn backup(
        &self,
        to: impl AsRef<Path>,
        options: BackupOptions,
    ) -> Result<Backup, CopyError> {
        self.opened().await?;
        let (store, to) = (self.path().to_owned(), to.as_ref().to_owned());
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel = Cancel(cancelled.clone());
        let work =
            move || Work { store, options, cancelled, linked: 0, copied: 0, bytes: 0 }.run(&to);
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(of_store(self.path())(Fault::damage(format!(
                "the task of a backup ended: {error}"
            )))),
        }
    }
}

/// Stops the backup when the future is dropped.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How often a backup starts again because the store removed files meanwhile. Each time there is less left to
/// copy.
const TRIES: usize = 200;
const PAUSE: Duration = Duration::from_millis(1);

/// How many files are open at a time, and how much is copied at a time.
const OPEN: usize = 64;
const PART: u64 = 4 << 20;

struct Work {
    store: PathBuf,
    options: BackupOptions,
    cancelled: Arc<AtomicBool>,
    linked: u64,
    copied: u64,
    bytes: u64,
}

/// Why a try has failed.
enum Again {
    /// The store removed a file that it does not need any more. The next try can succeed.
    Gone(Fault),
    Error(CopyError),
}

impl Work {
    fn run(mut self, to: &Path) -> Result<Backup, CopyError> {
        check_place(&self.store, to)?;
        let partial = Partial::make(to)?;
        let path = partial.path().to_owned();
        let commit = self.copy(&path)?;
        sync(&path)?;
        let mut verification = None;
        if self.options.verify {
            let view = View::closed(&path).map_err(of_store(&path))?;
            let view = view.ok_or_else(|| CopyError::Missing { path: path.clone() })?;
            let checked = verify::check(&view, &mut self.options.progress)?;
            if let Some(finding) = checked.findings.first() {
                return Err(CopyError::Wrong { what: finding.to_string() });
            }
            verification = Some(checked);
        }
        self.go_on()?;
        let path = partial.finish()?;
        let Self { linked, copied, bytes, .. } = self;
        Ok(Backup { path, commit, linked, copied, bytes, verification })
    }

    /// Copies everything except the file `store`, then writes that file. Returns the number of the last
    /// commit.
    fn copy(&mut self, to: &Path) -> Result<u64, CopyError> {
        let make = |path: PathBuf| fs::create_dir(&path).map_err(CopyError::io(&path, "made"));
        let tree = to.join(home::TREE);
        make(tree.clone())?;
        make(tree.join(TABLES))?;
        make(to.join(home::LOG))?;
        let mut have = HashMap::new();
        let mut tries = 0;
        let (list, facts) = loop {
            match self.try_copy(to, &mut have) {
                Ok(copied) => break copied,
                Err(Again::Error(error)) => return Err(error),
                Err(Again::Gone(fault)) if tries == TRIES => {
                    return Err(of_store(&self.store)(fault));
                }
                Err(Again::Gone(_)) => {
                    tries += 1;
                    std::thread::sleep(PAUSE);
                }
            }
            self.go_on()?;
        };
        let listed: Vec<_> = list.runs.iter().flatten().map(|file| file.id).collect();
        for id in have.keys().filter(|id| !listed.contains(id)) {
            let path = tree.join(TABLES).join(id.to_string());
            fs::remove_file(&path).map_err(CopyError::io(&path, "removed"))?;
        }
        self.write(&tree.join(format!("v{}", list.number)), &list.bytes)?;
        self.write(&tree.join(CURRENT), &list.current)?;
        write_facts(to, facts)?;
        Ok(facts.number)
    }

    fn try_copy(
        &mut self,
        to: &Path,
        have: &mut HashMap<u64, u128>,
    ) -> Result<(List, Facts), Again> {
        // The order matters. The writer notes the newest file of the log in the file `store` before that log
        // file has a commit, and removes a log file only after the tree has all of it. So read the facts
        // first, then the tree, then the log.
        let facts = view::read_facts(&self.store).map_err(|fault| self.gone(fault))?;
        let list = List::read(&self.store.join(home::TREE));
        let list = list.map_err(|error| self.gone(error.into()))?;
        self.copy_tables(&list, to, have)?;
        let mark = list.mark(&to.join(home::TREE)).map_err(|fault| self.gone(fault))?;
        self.copy_log(&facts, mark, to)?;
        let newest = facts.newest.max(mark.file);
        let mut copied = Facts { incarnation: facts.incarnation + 1, newest, ..facts };
        let end = replay(&to.join(home::LOG), &copied, mark, |_| ());
        copied.number = end.map_err(|fault| self.gone(fault))?.number;
        Ok((list, copied))
    }

    fn copy_tables(
        &mut self,
        list: &List,
        to: &Path,
        have: &mut HashMap<u64, u128>,
    ) -> Result<(), Again> {
        let place = |root: &Path, id: u64| root.join(home::TREE).join(TABLES).join(id.to_string());
        let missing: Vec<Listed> = list
            .runs
            .iter()
            .flatten()
            .filter(|file| have.get(&file.id) != Some(&file.checksum))
            .copied()
            .collect();
        let mut progress = std::mem::replace(&mut self.options.progress, Box::new(|_| ()));
        let result = (|| {
            let mut teller = Teller::new(Stage::Copying, None, &mut progress);
            for files in missing.chunks(OPEN) {
                let opened: Vec<_> = files
                    .iter()
                    .map(|file| File::open(place(&self.store, file.id)))
                    .collect::<Result<_, _>>()
                    .map_err(|error| self.gone(Fault::Io("read", error)))?;
                for (file, source) in files.iter().zip(opened) {
                    let target = place(to, file.id);
                    if have.remove(&file.id).is_some() {
                        fs::remove_file(&target)
                            .map_err(CopyError::io(&target, "removed"))
                            .map_err(Again::Error)?;
                    }
                    let from = place(&self.store, file.id);
                    let length = source.metadata().map_or(0, |facts| facts.len());
                    if self.options.hard_links && fs::hard_link(&from, &target).is_ok() {
                        teller.add(length);
                        self.linked += 1;
                    } else {
                        self.copy_file(&source, &target, &mut teller).map_err(Again::Error)?;
                        self.copied += 1;
                    }
                    self.bytes += length;
                    have.insert(file.id, file.checksum);
                    self.go_on().map_err(Again::Error)?;
                }
            }
            Ok(())
        })();
        self.options.progress = progress;
        result
    }

    fn copy_file(
        &self,
        source: &File,
        target: &Path,
        teller: &mut Teller<'_>,
    ) -> Result<(), CopyError> {
        let failed = |doing| CopyError::io(target, doing);
        let mut file = File::create_new(target).map_err(failed("written"))?;
        loop {
            let copied = io::copy(&mut source.take(PART), &mut file);
            let copied = copied.map_err(failed("written"))?;
            teller.add(copied);
            if copied == 0 {
                return file.sync_all().map_err(failed("synced"));
            }
            self.go_on()?;
        }
    }

    /// Copies the files of the log that the tree does not have. The newest one is copied as far as it is
    /// written.
    fn copy_log(&mut self, facts: &Facts, mark: Mark, to: &Path) -> Result<(), Again> {
        let (from, to) = (self.store.join(home::LOG), to.join(home::LOG));
        log::remove(&to, |_| true).map_err(CopyError::io(&to, "removed")).map_err(Again::Error)?;
        for index in mark.file + 1..=facts.newest {
            let bytes = fs::read(log::path(&from, index));
            let bytes = bytes.map_err(|error| self.gone(Fault::Io("read", error)))?;
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let target = log::path(&to, index);
            let write = || {
                let mut file = File::create_new(&target)?;
                file.write_all(&bytes[..used])?;
                file.set_len(bytes.len() as u64)?;
                file.sync_all()
            };
            write().map_err(CopyError::io(&target, "written")).map_err(Again::Error)?;
        }
        Ok(())
    }

    fn write(&mut self, path: &Path, bytes: &[u8]) -> Result<(), CopyError> {
        let write = || {
            let mut file = File::create_new(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        self.copied += 1;
        self.bytes += bytes.len() as u64;
        write().map_err(CopyError::io(path, "written"))
    }

    /// Decides whether a fault may come from the writer's work on the same files. Then a new try can succeed.
    fn gone(&self, fault: Fault) -> Again {
        match fault {
            Fault::Damage(_) => Again::Gone(fault),
            Fault::Io(_, ref error) if error.kind() == io::ErrorKind::NotFound => {
                Again::Gone(fault)
            }
            fault => Again::Error(of_store(&self.store)(fault)),
        }
    }

    /// Fails if the caller has dropped the future.
    fn go_on(&self) -> Result<(), CopyError> {
        if self.cancelled.load(Ordering::Relaxed) {
            let error = io::ErrorKind::Interrupted.into();
            return Err(CopyError::io(&self.store, "copied")(error));
        }
        Ok(())
    }
}

fn write_facts(to: &Path, facts: Facts) -> Result<(), CopyError> {
    let path = to.join(home::STORE);
    let write = || {
        let mut file = File::create_new(&path)?;
        file.write_all(facts.print().as_bytes())?;
        file.sync_all()
    };
    write().map_err(CopyError::io(&path, "written"))
}

/// Makes the list of files of a directory durable.
fn sync(path: &Path) -> Result<(), CopyError> {
    let tree = path.join(home::TREE);
    for path in [tree.join(TABLES), tree, path.join(home::LOG), path.to_owned()] {
        if path.is_dir() {
            sync_dir(&path).map_err(CopyError::io(&path, "synced"))?;
        }
    }
    Ok(())
}
