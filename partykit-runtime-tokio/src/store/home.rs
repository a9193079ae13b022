use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64;

use super::error::Fault;

/// The format of stores that this release writes, and the newest that it reads.
///
/// Whoever changes what is on disk, here, in the log or in the keys, counts it up.
pub(super) const FORMAT: u32 = 2;

pub(super) const LOCK: &str = "lock";
pub(super) const STORE: &str = "store";
pub(super) const LOG: &str = "log";
pub(super) const TREE: &str = "tree";
const FIRST_WORDS: &str = "partykit store, format ";

/// The directory of a store, locked: what is in it, and the few facts about it that stand in a file of
/// their own.
///
/// ```text
/// lock    held by the process that has the store open
/// store   this record, as text, replaced whole
/// log/    the commits since the tree's files were last written, one file after another
/// tree/   all else
/// ```
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    facts: Facts,
    _lock: File,
}

/// What the file `store` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// How many processes have opened the store, this one included.
    pub(super) incarnation: u64,
    /// What no value of a user can have: see [`Facts::seed`].
    pub(super) secret: u64,
    /// Whether the tree was made. From then on it must be there.
    pub(super) has_tree: bool,
    /// The newest file of the log, 0 before the first. It must be there, unless the tree says that it
    /// has all that it held.
    pub(super) newest: u64,
    /// The number of a commit that was stored. What is found must reach to it.
    pub(super) number: u64,
}

impl Home {
    /// Opens and locks what is there; `None` if there is no store.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, Fault> {
        let path = std::path::absolute(path).map_err(Fault::io("found"))?;
        match fs::read_dir(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Fault::Io("opened", error)),
        }
        let exists = |name| path.join(name).try_exists().map_err(Fault::io("read"));
        if !exists(STORE)? {
            return match exists(TREE)? || exists(LOG)? {
                true => Err(Fault::damage(format!("the file `{STORE}` is missing"))),
                false => Ok(None),
            };
        }
        let lock = lock(&path)?;
        let text = fs::read(path.join(STORE)).map_err(Fault::io("read"))?;
        Ok(Some(Self { facts: Facts::parse(&text)?, path, _lock: lock }))
    }

    /// Makes the directory, and a store in it that has nothing yet.
    pub(super) fn create(path: &Path) -> Result<Self, Fault> {
        let path = std::path::absolute(path).map_err(Fault::io("found"))?;
        create_dir(&path).map_err(Fault::io("created"))?;
        let lock = lock(&path)?;
        if path.join(STORE).try_exists().map_err(Fault::io("read"))? {
            // Another process made it just now.
            return Err(Fault::InUse);
        }
        let mut secret = [0; 8];
        getrandom::fill(&mut secret)
            .map_err(|error| Fault::Io("created", io::Error::other(error.to_string())))?;
        let secret = u64::from_le_bytes(secret);
        let mut home = Self { path, facts: Facts::default(), _lock: lock };
        home.write(Facts { secret, ..Facts::default() })?;
        Ok(home)
    }

    pub(super) fn facts(&self) -> Facts {
        self.facts
    }

    /// Replaces the facts, durably.
    pub(super) fn write(&mut self, facts: Facts) -> Result<(), Fault> {
        let (new, path) = (self.path.join("store.new"), self.path.join(STORE));
        let replace = || {
            let mut file = File::create(&new)?;
            file.write_all(facts.print().as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            sync_dir(&self.path)
        };
        replace().map_err(Fault::io("written"))?;
        self.facts = facts;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn tree(&self) -> PathBuf {
        self.path.join(TREE)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }
}

impl Facts {
    /// What checksums in this file of the log begin with. Nobody outside knows it, so no stored value
    /// can pass for a record.
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
        // The checksum is the text's, so what is equal to the text is right.
        if facts.print() == text { Ok(facts) } else { Err(is_none()) }
    }
}

/// Makes a directory and those above it that are missing, durably.
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        create_dir(above)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => sync_dir(above)?,
        }
    }
    sync_dir(path)
}

/// Makes durable which files a directory has. On Windows, directories cannot be synced, and need not.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

fn lock(home: &Path) -> Result<File, Fault> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(home.join(LOCK))
        .map_err(Fault::io("locked"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Fault::InUse),
        Err(TryLockError::Error(error)) => Err(Fault::Io("locked", error)),
    }
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
    fn a_flipped_bit_or_a_missing_byte_is_damage_or_a_newer_format() {
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
