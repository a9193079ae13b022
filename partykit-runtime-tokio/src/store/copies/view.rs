use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;

use super::{
    super::{
        error::Fault,
        home::{self, Facts},
        log,
        replay::{Mark, replay},
    },
    Finding, layout,
    list::{List, Listed, NoList, TABLES},
    merge::{Changes, Merge, Table},
};

/// How often a store in use is read again before an error counts. Its files come and go, so an error may go
/// away.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(2);

/// A store at one moment, read from its files. Nothing is written.
#[derive(Debug)]
pub(super) struct View {
    pub(super) path: PathBuf,
    /// `None` if the file `store` cannot be read.
    pub(super) facts: Option<Facts>,
    pub(super) listed: Vec<Listed>,
    pub(super) runs: Vec<Vec<Table>>,
    pub(super) log: Changes,
    /// The number of the last commit in the view.
    pub(super) number: u64,
    /// Why later commits are lost. `None` if none are.
    pub(super) lost: Option<String>,
    /// What is wrong, except in the blocks of the tree.
    pub(super) findings: Vec<Finding>,
    /// Whether it is unknown which rows of the tree are the newest.
    pub(super) is_doubtful: bool,
    /// Whether the order of the runs is not known.
    is_unlisted: bool,
    _lock: Vec<File>,
}

impl View {
    /// The view of a store that no process has open. `None` if there is no store.
    pub(super) fn closed(path: &Path) -> Result<Option<Self>, Fault> {
        match fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => drop(entries.map_err(Fault::io("opened"))?),
        }
        let exists = |name| path.join(name).try_exists().map_err(Fault::io("read"));
        if !exists(home::STORE)? && !exists(home::TREE)? && !exists(home::LOG)? {
            return Ok(None);
        }
        let lock = lock(path)?;
        Ok(Some(Self { _lock: lock, ..Self::read(path, false)? }))
    }

    /// The view of a store that this process has open. It has every commit that was answered before the call.
    pub(super) fn live(path: &Path) -> Result<Self, Fault> {
        let mut view = Self::read(path, true);
        for _ in 0..TRIES {
            if view.as_ref().is_ok_and(|view| view.findings.is_empty()) {
                break;
            }
            std::thread::sleep(PAUSE);
            view = Self::read(path, true);
        }
        view
    }

    fn read(path: &Path, hold: bool) -> Result<Self, Fault> {
        let mut view = Self {
            path: path.to_owned(),
            facts: None,
            listed: Vec::new(),
            runs: Vec::new(),
            log: Changes::new(),
            number: 0,
            lost: None,
            findings: Vec::new(),
            is_doubtful: false,
            is_unlisted: false,
            _lock: Vec::new(),
        };
        view.read_facts()?;
        view.read_list(hold)?;
        let mark = view.read_mark()?;
        view.read_log(mark)?;
        Ok(view)
    }

    /// The rows of a range of keys.
    pub(super) fn rows(&self, start: &[u8], end: Option<&[u8]>) -> Result<Merge<'_>, Fault> {
        Merge::new(&self.runs, &self.log, start, end, self.is_unlisted).map_err(Fault::io("read"))
    }

    fn read_facts(&mut self) -> Result<(), Fault> {
        match read_facts(&self.path) {
            Ok(facts) => self.facts = Some(facts),
            Err(Fault::Damage(what)) => self.finding(home::STORE, None, what),
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    fn read_list(&mut self, hold: bool) -> Result<(), Fault> {
        let tree = self.path.join(home::TREE);
        let exists = tree.try_exists().map_err(Fault::io("read"))?;
        if !exists && !self.facts.is_some_and(|facts| facts.has_tree) {
            return Ok(());
        }
        let list = match List::read(&tree) {
            Ok(list) => list,
            Err(NoList::Io(error)) => return Err(Fault::Io("read", error)),
            Err(NoList::Wrong(name)) => {
                let has_tree = self.facts.is_none_or(|facts| facts.has_tree);
                if !has_tree && !tree.join(TABLES).try_exists().map_err(Fault::io("read"))? {
                    // The last process ended while it made the tree.
                    return Ok(());
                }
                self.finding(
                    &format!("tree/{name}"),
                    None,
                    "the list of files is missing or wrong",
                );
                match exists.then(|| List::find(&tree)).transpose().map_err(Fault::io("read"))? {
                    Some(Some(list)) => list,
                    _ => {
                        (self.is_doubtful, self.is_unlisted) = (true, true);
                        List::of_all(&tree).map_err(Fault::io("read"))?
                    }
                }
            }
        };
        self.listed = list.runs.iter().flatten().copied().collect();
        for run in list.runs {
            let mut tables = Vec::with_capacity(run.len());
            for listed in run {
                let path = tree.join(TABLES).join(listed.id.to_string());
                let table = Table::find(&path, listed.id, listed.added, hold);
                let table = table.map_err(Fault::io("read"))?;
                if table.is_missing {
                    self.finding(&table_name(listed.id), None, "it is missing");
                }
                tables.push(table);
            }
            self.runs.push(tables);
        }
        Ok(())
    }

    /// How much of the log the tree has. `None` if that is lost.
    fn read_mark(&mut self) -> Result<Option<Mark>, Fault> {
        if self.is_doubtful {
            return Ok(None);
        }
        // Damage in these blocks is reported when the rows are read.
        Ok(mark(&self.runs)?.ok())
    }

    fn read_log(&mut self, mark: Option<Mark>) -> Result<(), Fault> {
        let dir = self.path.join(home::LOG);
        let Some(facts) = self.facts else {
            self.number = mark.map_or(0, |mark| mark.number);
            self.is_doubtful |= mark.is_none();
            self.lost = Some("the log cannot be read without the file `store`".to_owned());
            return Ok(());
        };
        let Some(begin) = mark.map_or_else(|| first_in_log(&dir, &facts), |mark| Ok(Some(mark)))?
        else {
            // Only the tree is left, and it does not say up to which commit it reaches.
            self.number = facts.number;
            return Ok(());
        };
        let (log, mut records) = (&mut self.log, 0);
        let end = replay(&dir, &facts, begin, |changes| {
            records += 1;
            for (key, value) in changes {
                log.insert(Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice));
            }
        });
        self.number = begin.number + records;
        match end {
            Ok(end) => self.number = end.number,
            Err(Fault::Damage(what)) => {
                // Without the mark it is unknown whether the tree is newer than the rest of the log.
                self.is_doubtful |= mark.is_none();
                self.finding(home::LOG, None, what.clone());
                self.lost = Some(what);
            }
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    fn finding(&mut self, file: &str, at: Option<u64>, what: impl Into<String>) {
        self.findings.push(Finding::new(file, at, what));
    }
}

/// The name of a file with rows, as a path inside the store's directory.
pub(super) fn table_name(id: u64) -> String {
    format!("{}/{TABLES}/{id}", home::TREE)
}

pub(super) fn read_facts(path: &Path) -> Result<Facts, Fault> {
    match fs::read(path.join(home::STORE)) {
        Ok(text) => Facts::parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Fault::damage(format!("the file `{}` is missing", home::STORE)))
        }
        Err(error) => Err(Fault::Io("read", error)),
    }
}

/// How much of the log the tree has, read from one of its rows; or why that is unknown.
pub(super) fn mark(runs: &[Vec<Table>]) -> Result<Result<Mark, Finding>, Fault> {
    let (nothing, key) = (Changes::new(), [layout::MARK]);
    let merge = Merge::new(runs, &nothing, &key, Some(&[layout::MARK + 1]), false);
    let mut merge = merge.map_err(Fault::io("read"))?;
    let found = merge.next().map_err(Fault::io("read"))?;
    let hole = merge.holes.iter().find(|hole| hole.has(&key));
    match (found, hole) {
        (Some(found), _) if found.is_certain => {
            let fields = found.value.split_first_chunk::<8>();
            let mark = fields.and_then(|(number, file)| {
                let file = u64::from_le_bytes(file.try_into().ok()?);
                Some(Mark { number: u64::from_le_bytes(*number), file })
            });
            let senseless = "the row that says how far the tree reaches makes no sense";
            Ok(mark.ok_or_else(|| Finding::new(home::TREE, None, senseless)))
        }
        (_, Some(hole)) => Ok(Err(hole.finding())),
        (_, None) => Ok(Ok(Mark::default())),
    }
}

/// A mark that stands before the first file of the log, so that the whole log is read again. `None` if the
/// log has no file. Reading a commit again changes nothing in a tree that has it already.
fn first_in_log(dir: &Path, facts: &Facts) -> Result<Option<Mark>, Fault> {
    let files = log::files(dir).map_err(Fault::io("read"))?;
    // A file after the newest one does not belong to the log yet.
    let Some(file) = files.first().filter(|file| **file <= facts.newest) else { return Ok(None) };
    let bytes = fs::read(log::path(dir, *file)).map_err(Fault::io("read"))?;
    let head = log::Head::parse(&bytes, facts.seed(*file));
    Ok(Some(match head {
        Some(head) => Mark { number: head.first.saturating_sub(1), file: file - 1 },
        // The file is damaged. Replay finds the same and reports it.
        None => Mark { number: 0, file: file - 1 },
    }))
}

/// Locks the store against writers.
fn lock(path: &Path) -> Result<Vec<File>, Fault> {
    let mut locks = Vec::new();
    for name in [path.to_owned(), path.join(home::LOCK)] {
        let file = match File::open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) if !cfg!(unix) => continue,
            file => file.map_err(Fault::io("locked"))?,
        };
        match file.try_lock_shared() {
            Ok(()) => locks.push(file),
            Err(TryLockError::WouldBlock) => return Err(Fault::InUse),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(Fault::Io("locked", error)),
        }
    }
    Ok(locks)
}
