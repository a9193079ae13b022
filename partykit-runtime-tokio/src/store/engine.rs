use std::sync::Arc;

use partykit_core::{BackendError, WakeUp};

use super::{
    Durability,
    ahead::Ahead,
    error::Fault,
    guard::caught,
    home::{Facts, Home},
    keys, list,
    log::{self, Blank, Head, Log},
    options::StoreOptions,
    queue::Waiting,
    record::Record,
    replay::{Mark, replay},
    rig,
    tree::{Snapshot, Tree},
    upkeep::Upkeep,
};

/// An open store, owned by the one writer: the tree, the log in front of it, and the threads that move rows
/// from memory to the tree's files.
#[derive(Debug)]
pub(super) struct Engine {
    /// The first field, because its thread has to end before the directory is given back.
    ahead: Ahead,
    home: Home,
    tree: Arc<Tree>,
    log: Option<Log>,
    upkeep: Upkeep,
    record: Record,
    /// The number of the last commit.
    number: u64,
    durability: Durability,
    options: StoreOptions,
}

/// The result of each commit of a group.
pub(super) type Answers = Vec<Result<(), BackendError>>;

impl Engine {
    /// Opens the tree and writes the rest of the log into the tree's files. So a file of the log whose end
    /// is uncertain is never continued.
    ///
    /// Gives the directory back if that fails.
    pub(super) fn open(
        mut home: Home,
        durability: Durability,
        options: StoreOptions,
        failed: impl Fn(Fault) + Send + 'static,
    ) -> Result<Self, (Home, Fault)> {
        let opened = caught(|| recover(&mut home, &options, failed));
        match opened {
            Ok((tree, upkeep, number)) => {
                let record = Record::default();
                Ok(Self {
                    ahead: Ahead::default(),
                    home,
                    tree,
                    log: None,
                    upkeep,
                    record,
                    number,
                    durability,
                    options,
                })
            }
            Err(fault) => Err((home, fault)),
        }
    }

    pub(super) fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// Writes a group of commits as one record, and syncs it if the store is durable. A room has at most one
    /// commit in a group.
    ///
    /// # Errors
    ///
    /// The store has failed and must be opened again. Before that it is unknown whether the commits are
    /// stored: either all of them are, or none.
    pub(super) fn commit(&mut self, commits: &[Waiting]) -> Result<Answers, Fault> {
        self.record.clear();
        let before = self.tree.snapshot();
        let mut answers = Vec::with_capacity(commits.len());
        for commit in commits {
            let point = self.record.point();
            let encoded = encode(commit, self.number + 1, &before, &mut self.record);
            if encoded.is_err() {
                self.record.back_to(point);
            }
            let path = self.home.path();
            answers.push(encoded.map_err(|fault| BackendError::Failed(fault.at(path).into())));
        }
        drop(before);
        if !self.record.is_empty() {
            self.write()?;
            self.check()?;
            if self.is_synced() {
                self.home.acknowledge(self.number);
            }
        }
        Ok(answers)
    }

    /// Syncs everything that was written.
    pub(super) fn sync(&mut self) -> Result<(), Fault> {
        self.log.as_mut().map_or(Ok(()), Log::sync).map_err(Fault::io("written"))?;
        self.check()?;
        self.home.acknowledge(self.number);
        Ok(())
    }

    /// Whether what is written can be found again: the directory and its files are where they were.
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.home.check()?;
        self.log.as_ref().map_or(Ok(()), |log| log.check(&self.home.log()))
    }

    /// Whether [`Engine::rest`] has enough to do: there is much in memory, or a room was cleared and its disk
    /// space can be given back.
    pub(super) fn wants_rest(&self) -> bool {
        let is_much = self.tree.in_memory() >= rig::size(self.options.part()) / 4;
        self.log.is_some() && (is_much || self.tree.cleared() > 0)
    }

    /// Writes what is in memory to the tree's files. Called when there are no commits.
    pub(super) fn rest(&mut self) -> Result<(), Fault> {
        match self.log.take() {
            Some(log) => self.end_log(log),
            None => Ok(()),
        }
    }

    /// Whether everything that was written is synced.
    pub(super) fn is_synced(&self) -> bool {
        self.log.as_ref().is_none_or(Log::is_synced)
    }

    /// Closes the store, and notes the number of the last commit. A later start expects to find all commits
    /// up to it.
    pub(super) fn close(mut self) -> Result<(), Fault> {
        self.sync()?;
        drop(self.upkeep);
        let facts = self.home.facts();
        if facts.number != self.number {
            self.home.write(Facts { number: self.number, ..facts })?;
        }
        Ok(())
    }

    /// Drops the tree and the log, because their state is unknown. Keeps the directory and its lock.
    pub(super) fn into_home(self) -> Home {
        let Self { ahead, home, tree, upkeep, .. } = self;
        drop(ahead);
        // The tree may panic again while it is dropped. The directory is kept in any case.
        let _ = caught(|| {
            drop(upkeep);
            Ok(())
        });
        // An unused file of the tree is removed, by its name, when its last user drops it. By then a new
        // tree could have given that name to another file.
        while Arc::strong_count(&tree) > 1 {
            std::thread::park_timeout(std::time::Duration::from_millis(1));
        }
        let _ = caught(|| {
            drop(tree);
            Ok(())
        });
        home
    }

    fn write(&mut self) -> Result<(), Fault> {
        self.upkeep.slow_down();
        let is_full = self.tree.in_memory() >= rig::size(self.options.part());
        let mut log = match self.log.take() {
            Some(log) if self.record.end(log.end()) <= log.length() && !is_full => log,
            log => self.next_log(log)?,
        };
        let record = self.record.finish(self.number + 1, log.seed(), log.end());
        log.append(record).map_err(Fault::io("written"))?;
        if self.durability == Durability::Durable {
            log.sync().map_err(Fault::io("written"))?;
        }
        self.number += 1;
        self.tree.change(self.record.changes());
        self.log = Some(log);
        Ok(())
    }

    /// Ends a file of the log, and has what it holds written to the tree's files.
    fn end_log(&mut self, mut log: Log) -> Result<(), Fault> {
        log.sync().map_err(Fault::io("written"))?;
        self.upkeep.catch_up();
        let mark = Mark { number: self.number, file: log.index() };
        self.tree.seal(mark);
        self.upkeep.flush(mark);
        Ok(())
    }

    /// Ends a file of the log, has what it holds written to the tree's files, and begins the next.
    fn next_log(&mut self, log: Option<Log>) -> Result<Log, Fault> {
        if let Some(log) = log {
            self.end_log(log)?;
        }
        self.home.check()?;
        let facts = self.home.facts();
        let index = facts.newest + 1;
        let dir = self.home.log();
        let usual = rig::size(self.options.part());
        let length = usual.max(self.record.end(log::HEAD as u64));
        let blank = match self.ahead.take(index, length) {
            Some(blank) => blank,
            None => Blank::create(&dir, index, length).map_err(Fault::io("written"))?,
        };
        let head = Head {
            index,
            first: self.number + 1,
            length,
            is_durable: self.durability == Durability::Durable,
        };
        let log = Log::begin(&dir, blank, head, facts.seed(index));
        let log = log.map_err(Fault::io("written"))?;
        self.home.write(Facts { newest: index, ..facts })?;
        self.ahead.make(self.home.place(), dir, index + 1, usual);
        Ok(log)
    }
}

fn recover(
    home: &mut Home,
    options: &StoreOptions,
    failed: impl Fn(Fault) + Send + 'static,
) -> Result<(Arc<Tree>, Upkeep, u64), Fault> {
    home.reconcile()?;
    let facts = home.facts();
    list::check_list_of_files(home)?;
    let tree = Tree::open(&home.tree(), options)?;
    if !facts.has_tree {
        super::home::sync_dir(home.path()).map_err(Fault::io("written"))?;
        home.write(Facts { has_tree: true, ..facts })?;
    }
    let mark = tree.mark()?;
    let mut replayed = rig::Replayed::default();
    let end = replay(&home.log(), &home.expected(), mark, |changes| {
        replayed.commit(changes, |changes| tree.change(changes));
    })?;
    replayed.end(|changes| tree.change(changes));
    if end != mark {
        tree.seal(end);
        tree.flush()?;
    } else if home.log().is_dir() {
        // The tree has it all, but a list of its files that was written just before a sync failed may not
        // be durable.
        list::sync_names(&home.tree()).map_err(Fault::io("written"))?;
    }
    home.raise_newest(end.file);
    // All files: those that the tree has now, and one that was begun only, if there is one.
    log::remove(&home.log(), |_| true).map_err(Fault::io("cleaned up"))?;
    let upkeep = Upkeep::start(tree.clone(), home, failed)?;
    Ok((tree, upkeep, end.number))
}

/// Adds the changes of a commit to the record that gets this number.
fn encode(
    commit: &Waiting,
    number: u64,
    before: &Snapshot,
    record: &mut Record,
) -> Result<(), Fault> {
    let (room, batch) = (&commit.room, &commit.batch);
    let generation = if batch.clear {
        // One row clears the room, no matter how many rows it has: rows of earlier generations do not count
        // any more.
        let generation = keys::Generation(number);
        record.put(&keys::generation(room), &generation.print());
        generation
    } else {
        before.generation(room)?
    };
    let rows = keys::rows(room, generation);
    let mut key = rows.clone();
    for (row, value) in &batch.writes {
        key.truncate(rows.len());
        key.extend_from_slice(row);
        match value {
            Some(value) => record.put(&key, value),
            None if batch.clear => {}
            None => record.remove(&key),
        }
    }
    match batch.wake_up.or(batch.clear.then_some(WakeUp::Never)) {
        Some(wake_up) => encode_wake_up(commit, wake_up, before, record),
        None => Ok(()),
    }
}

fn encode_wake_up(
    commit: &Waiting,
    wake_up: WakeUp,
    before: &Snapshot,
    record: &mut Record,
) -> Result<(), Fault> {
    let room = &commit.room;
    let time = keys::time(room);
    let former =
        match before.get(&time)? {
            Some(value) => Some(keys::read_time(&value).ok_or_else(|| {
                Fault::damage("the row with the time of a wake-up cannot be read")
            })?),
            None => None,
        };
    let next = match wake_up {
        WakeUp::At(at) => Some(at),
        WakeUp::Never => None,
    };
    if former == next {
        return Ok(());
    }
    if let Some(former) = former {
        record.remove(&keys::wake(former, room));
    }
    match next {
        Some(at) => {
            record.put(&time, &at.as_millis().to_be_bytes());
            if rig::shows_wake_up() {
                record.put(&keys::wake(at, room), &[]);
            }
        }
        None => record.remove(&time),
    }
    Ok(())
}
