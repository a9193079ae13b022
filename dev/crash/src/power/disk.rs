use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use super::{Loss, content::Content, record::Record};

/// A directory with all in it, twice: as the process sees it, and as a power loss would leave it.
///
/// Stricter than file systems are: a name lasts when its directory was synced, and what a file holds
/// when the file was; neither follows from the other.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    /// The first is the directory itself. None ever goes: a name that was removed may come back.
    nodes: Vec<Node>,
    /// What the numbers in the log stand for at the moment. The kernel uses a number again.
    numbers: HashMap<u64, usize>,
    /// Syncs that have begun: of which node, and how many changes there had been.
    syncs: HashMap<u64, (usize, u64)>,
    changes: u64,
}

#[derive(Clone, Debug)]
enum Node {
    File { durable: Content, pending: Vec<(u64, FileChange)> },
    Directory { durable: Names, live: Names, pending: Vec<(u64, NameChange)> },
}

type Names = BTreeMap<Vec<u8>, usize>;

/// Names that are set or removed, all at once.
type NameChange = Vec<(Vec<u8>, Option<usize>)>;

#[derive(Clone, Debug)]
enum FileChange {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

impl Disk {
    /// A directory as it is, all of it durable.
    pub(crate) fn scan(directory: &Path) -> io::Result<Self> {
        let nothing = HashMap::new();
        let mut disk =
            Self { nodes: Vec::new(), numbers: nothing, syncs: HashMap::new(), changes: 0 };
        disk.scan_node(directory)?;
        Ok(disk)
    }

    fn scan_node(&mut self, path: &Path) -> io::Result<usize> {
        let metadata = fs::symlink_metadata(path)?;
        let node = if metadata.is_dir() {
            let node = self.add(metadata.ino(), Node::directory());
            let mut names = Names::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                names.insert(entry.file_name().as_bytes().to_vec(), self.scan_node(&entry.path())?);
            }
            self.nodes[node] =
                Node::Directory { durable: names.clone(), live: names, pending: Vec::new() };
            node
        } else {
            let durable = Content::of(&fs::read(path)?);
            self.add(metadata.ino(), Node::File { durable, pending: Vec::new() })
        };
        Ok(node)
    }

    /// Takes in what a log says. A record at its end that is not whole is left out.
    ///
    /// # Errors
    ///
    /// When it speaks of what is not there: then something got past the shim.
    pub(crate) fn replay(&mut self, mut log: &[u8]) -> io::Result<()> {
        while let Some((record, rest)) = Record::decode(log) {
            let unknown =
                || io::Error::other(format!("the shim missed what was before {record:?}"));
            self.apply(record).ok_or_else(unknown)?;
            log = rest;
        }
        Ok(())
    }

    fn apply(&mut self, record: Record<'_>) -> Option<()> {
        self.changes += 1;
        match record {
            Record::Create { directory, name, node } => {
                let node = self.add(node, Node::file());
                self.rename(directory, vec![(name.to_vec(), Some(node))])
            }
            Record::MakeDirectory { directory, name, node } => {
                let node = self.add(node, Node::directory());
                self.rename(directory, vec![(name.to_vec(), Some(node))])
            }
            Record::Link { directory, name, node } => {
                let node = *self.numbers.get(&node)?;
                self.rename(directory, vec![(name.to_vec(), Some(node))])
            }
            Record::Remove { directory, name } => {
                self.lookup(directory, name)?;
                self.rename(directory, vec![(name.to_vec(), None)])
            }
            Record::Rename { from, to } => {
                let node = self.lookup(from.0, from.1)?;
                let (gone, there) = ((from.1.to_vec(), None), (to.1.to_vec(), Some(node)));
                if from.0 == to.0 {
                    return self.rename(from.0, vec![gone, there]);
                }
                self.rename(from.0, vec![gone])?;
                self.rename(to.0, vec![there])
            }
            Record::Write { node, offset, data } => {
                self.change(node, FileChange::Write(offset, data.to_vec()))
            }
            Record::Truncate { node, length } => self.change(node, FileChange::Truncate(length)),
            Record::SyncBegins { node, ticket } => {
                let node = *self.numbers.get(&node)?;
                self.syncs.insert(ticket, (node, self.changes));
                Some(())
            }
            Record::SyncEnds { ticket } => {
                let (node, until) = self.syncs.remove(&ticket)?;
                self.nodes[node].settle(until);
                Some(())
            }
        }
    }

    /// Forgets the changes that were not synced, or some of them.
    pub(crate) fn lose(&mut self, loss: Loss) {
        let Loss::Something(mut random) = loss else {
            return self.nodes.iter_mut().for_each(|node| node.settle(0));
        };
        // A journaling file system keeps changes of names in order, over all directories.
        let names_until = random.u64(..=self.changes);
        for node in &mut self.nodes {
            if let Node::File { pending, .. } = node {
                pending.retain_mut(|(_, change)| {
                    if let FileChange::Write(_, data) = change
                        && random.bool()
                    {
                        data.truncate(random.usize(..=data.len()));
                    }
                    random.bool()
                });
            }
            let is_file = matches!(node, Node::File { .. });
            node.settle(if is_file { u64::MAX } else { names_until });
        }
    }

    /// Writes what is durable into a new directory.
    pub(crate) fn write_to(&self, directory: &Path) -> io::Result<()> {
        self.write_node(0, directory)
    }

    fn write_node(&self, node: usize, path: &Path) -> io::Result<()> {
        match &self.nodes[node] {
            Node::Directory { durable, .. } => {
                fs::create_dir(path)?;
                durable.iter().try_for_each(|(name, node)| {
                    self.write_node(*node, &path.join(OsStr::from_bytes(name)))
                })
            }
            Node::File { durable, .. } => {
                let mut file = fs::File::create(path)?;
                file.set_len(durable.length())?;
                durable.write_to(&mut file)
            }
        }
    }

    /// Where `directory` is not as the process should see it.
    pub(crate) fn differences(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let (mut ours, mut theirs) = (BTreeMap::new(), BTreeMap::new());
        self.live_files(0, directory, &mut ours);
        let found = Self::scan(directory)?;
        found.live_files(0, directory, &mut theirs);
        let paths: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        let different = paths.into_iter().filter(|path| ours.get(*path) != theirs.get(*path));
        Ok(different.cloned().collect())
    }

    fn live_files(&self, node: usize, path: &Path, into: &mut BTreeMap<PathBuf, Option<Content>>) {
        match &self.nodes[node] {
            Node::Directory { live, .. } => {
                into.insert(path.to_owned(), None);
                for (name, node) in live {
                    self.live_files(*node, &path.join(OsStr::from_bytes(name)), into);
                }
            }
            file @ Node::File { .. } => {
                let mut file = file.clone();
                file.settle(u64::MAX);
                if let Node::File { durable, .. } = file {
                    into.insert(path.to_owned(), Some(durable));
                }
            }
        }
    }

    fn add(&mut self, number: u64, node: Node) -> usize {
        self.nodes.push(node);
        self.numbers.insert(number, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn lookup(&self, directory: u64, name: &[u8]) -> Option<usize> {
        match &self.nodes[*self.numbers.get(&directory)?] {
            Node::Directory { live, .. } => live.get(name).copied(),
            Node::File { .. } => None,
        }
    }

    fn rename(&mut self, directory: u64, change: NameChange) -> Option<()> {
        match &mut self.nodes[*self.numbers.get(&directory)?] {
            Node::Directory { live, pending, .. } => {
                set(live, &change);
                pending.push((self.changes, change));
                Some(())
            }
            Node::File { .. } => None,
        }
    }

    fn change(&mut self, node: u64, change: FileChange) -> Option<()> {
        match &mut self.nodes[*self.numbers.get(&node)?] {
            Node::File { pending, .. } => {
                pending.push((self.changes, change));
                Some(())
            }
            Node::Directory { .. } => None,
        }
    }
}

impl Node {
    fn file() -> Self {
        Self::File { durable: Content::default(), pending: Vec::new() }
    }

    fn directory() -> Self {
        Self::Directory { durable: Names::new(), live: Names::new(), pending: Vec::new() }
    }

    /// Makes the changes before the one of this number durable.
    fn settle(&mut self, until: u64) {
        match self {
            Self::File { durable, pending } => {
                let kept = pending.partition_point(|(number, _)| *number < until);
                for (_, change) in pending.drain(..kept) {
                    match change {
                        FileChange::Write(offset, data) => durable.write(offset, &data),
                        FileChange::Truncate(length) => durable.truncate(length),
                    }
                }
            }
            Self::Directory { durable, pending, .. } => {
                let kept = pending.partition_point(|(number, _)| *number < until);
                pending.drain(..kept).for_each(|(_, change)| set(durable, &change));
            }
        }
    }
}

fn set(names: &mut Names, change: &NameChange) {
    for (name, node) in change {
        match node {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of a new file `a`, its name synced, then `abcdef` in three writes; and the directory.
    fn torn() -> (tempfile::TempDir, Disk) {
        let place = tempfile::tempdir().unwrap();
        let mut disk = Disk::scan(place.path()).unwrap();
        let directory = fs::metadata(place.path()).unwrap().ino();
        let node = directory + 1;
        let mut log = Vec::new();
        for record in [
            Record::Create { directory, name: b"a", node },
            Record::SyncBegins { node: directory, ticket: 0 },
            Record::SyncEnds { ticket: 0 },
            Record::Write { node, offset: 0, data: b"ab" },
            Record::SyncBegins { node, ticket: 1 },
            Record::Write { node, offset: 2, data: b"cd" },
            Record::SyncEnds { ticket: 1 },
            Record::Write { node, offset: 4, data: b"ef" },
        ] {
            record.encode(&mut log);
        }
        disk.replay(&log).unwrap();
        (place, disk)
    }

    fn left(disk: &mut Disk, loss: Loss, place: &Path) -> Vec<u8> {
        disk.lose(loss);
        let directory = place.join("left");
        disk.write_to(&directory).unwrap();
        let found = fs::read(directory.join("a")).unwrap();
        fs::remove_dir_all(directory).unwrap();
        found
    }

    #[test]
    fn a_sync_is_for_what_was_there_when_it_began() {
        let (place, mut disk) = torn();
        assert_eq!(left(&mut disk, Loss::Everything, place.path()), b"ab");
    }

    #[test]
    fn of_what_was_not_synced_anything_may_survive() {
        let (place, disk) = torn();
        let random = (0..200).map(fastrand::Rng::with_seed);
        let found: BTreeSet<_> = random
            .map(|random| left(&mut disk.clone(), Loss::Something(random), place.path()))
            .collect();
        let some: [&[u8]; 5] = [b"ab", b"abc", b"abcd", b"ab\0\0ef", b"abcdef"];
        assert!(some.into_iter().all(|some| found.contains(some)), "{found:?}");
        assert!(found.iter().all(|found| found.starts_with(b"ab")), "{found:?}");
    }

    #[test]
    fn a_log_with_a_gap_is_refused_and_one_that_differs_is_seen() {
        let (place, mut disk) = torn();
        assert_eq!(disk.differences(place.path()).unwrap(), [place.path().join("a")]);
        fs::write(place.path().join("a"), "abcdef").unwrap();
        assert!(disk.differences(place.path()).unwrap().is_empty());
        let mut log = Vec::new();
        Record::Remove { directory: 0, name: b"b" }.encode(&mut log);
        assert!(disk.replay(&log).unwrap_err().to_string().contains("missed"));
    }
}
