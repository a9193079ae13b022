use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    FORMAT,
    error::Fault,
    place::{Identity, Place},
    postponed::Postponed,
    rig,
};

pub(super) const LOCK: &str = "lock";
pub(super) const STORE: &str = "store";
pub(super) const LOG: &str = "log";
pub(super) const TREE: &str = "tree";
const FIRST_WORDS: &str = "partykit store, format ";

/// The locked directory of a store, with the few facts that are in its file `store`.
///
/// ```text
/// store   this record, as text, replaced whole
/// log/    the commits since the tree's files were last written, one file after another
/// tree/   all else
/// lock    locked instead of the directory, where directories cannot be
/// ```
#[derive(Debug)]
pub(super) struct Home {
    place: Arc<Place>,
    /// Counts over the whole life of the process, also when the store is opened again.
    pub(super) postponed: Arc<Postponed>,
    facts: Facts,
    /// The file `store`, as it was when it was last read or written.
    seen: Identity,
    /// Whether the file `store` may differ from `facts`, because writing it failed.
    is_unsure: bool,
    /// The number of the last commit that was confirmed as durable. A store that is opened again must have
    /// it.
    acknowledged: u64,
}

/// What the file `store` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// How many processes have opened the store, this one included.
    pub(super) incarnation: u64,
    /// A random number that no user knows: see [`Facts::seed`].
    pub(super) secret: u64,
    /// Whether the tree was made. From then on it must be there.
    pub(super) has_tree: bool,
    /// The newest file of the log, 0 before the first. The file must be there, unless the tree's mark says
    /// that the tree has all of it.
    pub(super) newest: u64,
    /// The number of a commit that was stored. Opening the store must find all commits up to it.
    pub(super) number: u64,
}

impl Home {
    /// Locks the directory and reads the facts. Makes both if there is nothing yet.
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let path = std::path::absolute(path).map_err(Fault::io("found"))?;
        let place = Arc::new(Place::open(&path)?);
        let exists = |name| path.join(name).try_exists().map_err(Fault::io("read"));
        if !exists(STORE)? {
            if exists(TREE)? || exists(LOG)? {
                return Err(Fault::damage(format!("the file `{STORE}` is missing")));
            }
            let mut secret = [0; 8];
            getrandom::fill(&mut secret)
                .map_err(|error| Fault::Io("created", io::Error::other(error.to_string())))?;
            let secret = u64::from_le_bytes(secret);
            let facts = Facts { secret, ..Facts::default() };
            replace(&path, facts).map_err(Fault::io("created"))?;
        }
        let (facts, seen) = read(&path)?;
        let (postponed, acknowledged) = (Arc::default(), facts.number);
        Ok(Self { place, postponed, facts, seen, is_unsure: false, acknowledged })
    }

    pub(super) fn facts(&self) -> Facts {
        self.facts
    }

    /// Replaces the facts, durably. After an error it is unknown which facts the disk has;
    /// [`Home::reconcile`] finds out.
    pub(super) fn write(&mut self, facts: Facts) -> Result<(), Fault> {
        self.check()?;
        self.is_unsure = true;
        replace(self.path(), facts).map_err(Fault::io("written"))?;
        self.seen = Identity::of(&self.path().join(STORE))?;
        self.facts = facts;
        self.is_unsure = false;
        Ok(())
    }

    /// Reads after a failure which facts the disk has, and makes them durable. Only facts that this process
    /// wrote are accepted.
    pub(super) fn reconcile(&mut self) -> Result<(), Fault> {
        self.place.check()?;
        if !rig::is_to_reconcile() {
            return Ok(());
        }
        let (found, seen) = read(self.path())?;
        let known = self.facts;
        if (found.secret, found.incarnation) != (known.secret, known.incarnation)
            || found.newest < known.newest
            || (known.has_tree && !found.has_tree)
        {
            return Err(Fault::moved(
                "the files in it are those of another store or an older copy",
            ));
        }
        (self.facts, self.seen) = (found, seen);
        if self.is_unsure { self.write(found) } else { Ok(()) }
    }

    /// Checks that the directory is still the one that this process has opened, and that the file `store` is
    /// the one that it has written.
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.place.check()?;
        if self.is_unsure {
            return Ok(());
        }
        match fs::metadata(self.path().join(STORE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Fault::moved(format!("the file `{STORE}` is gone")))
            }
            Err(error) => Err(Fault::Io("checked", error)),
            Ok(_) if Identity::of(&self.path().join(STORE))? == self.seen => Ok(()),
            Ok(_) => {
                Err(Fault::moved(format!("the file `{STORE}` was changed by another process")))
            }
        }
    }

    /// Notes that this commit is confirmed as durable.
    pub(super) fn acknowledge(&mut self, number: u64) {
        self.acknowledged = self.acknowledged.max(number);
    }

    /// What log and tree must have: the facts on disk, and the commits that were acknowledged since.
    pub(super) fn expected(&self) -> Facts {
        Facts { number: self.facts.number.max(self.acknowledged), ..self.facts }
    }

    /// Notes that the tree has everything up to this file of the log. The facts on disk may name an older
    /// file.
    pub(super) fn raise_newest(&mut self, file: u64) {
        self.facts.newest = self.facts.newest.max(file);
    }

    /// The directory, for those who write to it beside the commits.
    pub(super) fn place(&self) -> Arc<Place> {
        self.place.clone()
    }

    pub(super) fn path(&self) -> &Path {
        self.place.path()
    }

    pub(super) fn tree(&self) -> PathBuf {
        self.path().join(TREE)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path().join(LOG)
    }
}

impl Facts {
    /// The seed of the checksums in this file of the log. It is secret, so a stored value cannot pass for a
    /// record.
    pub(super) fn seed(&self, file: u64) -> u64 {
        xxh3_64(&[self.secret.to_le_bytes(), file.to_le_bytes()].concat())
    }

    pub(super) fn print(self) -> String {
        let Self { incarnation, secret, has_tree, newest, number } = self;
        let text = format!(
            "{FIRST_WORDS}{FORMAT}\nincarnation {incarnation}\nsecret {secret}\ntree {}\nlog \
             {newest}\nnumber {number}\n",
            u8::from(has_tree)
        );
        let checksum = xxh3_64(text.as_bytes());
        format!("{text}checksum {checksum:016x}\n")
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self, Fault> {
        let is_none = || Fault::damage(format!("the file `{STORE}` is not as it was written"));
        let text = std::str::from_utf8(text).map_err(|_| is_none())?;
        let first = text.lines().next().and_then(|line| line.strip_prefix(FIRST_WORDS));
        match first.and_then(|format| format.parse().ok()) {
            Some(format) if format > FORMAT => return Err(Fault::NewerFormat(format)),
            Some(format) if format < FORMAT => return Err(Fault::OlderFormat(format)),
            Some(_) => {}
            None => return Err(is_none()),
        }
        let mut facts = Self::default();
        for line in text.lines() {
            let number = |name| line.strip_prefix(name)?.parse::<u64>().ok();
            if let Some(number) = number("incarnation ") {
                facts.incarnation = number;
            } else if let Some(number) = number("secret ") {
                facts.secret = number;
            } else if let Some(number) = number("tree ") {
                facts.has_tree = number == 1;
            } else if let Some(number) = number("log ") {
                facts.newest = number;
            } else if let Some(number) = number("number ") {
                facts.number = number;
            }
        }
        // The text contains its own checksum. So if it prints the same, it is right.
        if facts.print() == text { Ok(facts) } else { Err(is_none()) }
    }
}

/// Writes the file `store`, durably.
fn replace(home: &Path, facts: Facts) -> io::Result<()> {
    let new = home.join("store.new");
    let mut file = File::create(&new)?;
    file.write_all(facts.print().as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, home.join(STORE))?;
    sync_dir(home)?;
    #[cfg(test)]
    super::faults::Faults::of(&home.join(LOG)).after_directory_sync()?;
    Ok(())
}

fn read(home: &Path) -> Result<(Facts, Identity), Fault> {
    let path = home.join(STORE);
    let seen = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Fault::damage(format!("the file `{STORE}` is missing")));
        }
        Err(error) => return Err(Fault::Io("read", error)),
        Ok(_) => Identity::of(&path)?,
    };
    let text = fs::read(&path).map_err(Fault::io("read"))?;
    Ok((Facts::parse(&text)?, seen))
}

/// Makes the list of a directory's files durable. Does nothing on Windows, which cannot sync directories and
/// does not need it.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts =
        Facts { incarnation: 7, secret: u64::MAX, has_tree: true, newest: 12, number: 3400 };

    #[test]
    fn facts_are_read_as_they_were_written() {
        assert_eq!(Facts::parse(FACTS.print().as_bytes()).unwrap(), FACTS);
        let fresh = Facts::default();
        assert_eq!(Facts::parse(fresh.print().as_bytes()).unwrap(), fresh);
    }

    #[test]
    fn a_flipped_bit_or_a_missing_byte_is_damage_or_another_format() {
        let text = FACTS.print();
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Facts::parse(&bytes).is_err(), "bit {bit}");
        }
        for length in 0..text.len() {
            assert!(Facts::parse(&text.as_bytes()[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_newer_format_is_told_whatever_follows() {
        let text = format!("{FIRST_WORDS}{}\nof which we know nothing\n", FORMAT + 1);
        assert!(matches!(Facts::parse(text.as_bytes()), Err(Fault::NewerFormat(found))
            if found == FORMAT + 1));
    }
}
