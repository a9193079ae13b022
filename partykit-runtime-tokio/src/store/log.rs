use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    error::Fault,
    home::sync_dir,
    place::{Identity, create_dir},
    rig,
};

/// What a file begins with.
pub(super) const HEAD: usize = 48;
const MAGIC: [u8; 8] = *b"PKLOG 2\n";

/// A file of the log, being written.
///
/// The file has its full length from the beginning, and is zero behind the last record. So a record does not
/// change the length, and a file that was cut short is noticed.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    head: Head,
    seed: u64,
    written: u64,
    is_synced: bool,
    #[cfg(test)]
    faults: super::faults::Faults,
}

/// What stands at the beginning of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) index: u64,
    /// The number of its first record.
    pub(super) first: u64,
    /// The length of the file in bytes.
    pub(super) length: u64,
    /// Whether each record is synced before the next one is written.
    pub(super) is_durable: bool,
}

/// A file that was made and has no head yet. It does not belong to the log: opening the store removes such a
/// file.
#[derive(Debug)]
pub(super) struct Blank {
    file: File,
    pub(super) index: u64,
    pub(super) length: u64,
}

impl Blank {
    /// Makes the file, durably. Replaces a file with the same number.
    pub(super) fn create(dir: &Path, index: u64, length: u64) -> io::Result<Self> {
        if rig::is_to_sync_directory() {
            create_dir(dir)?;
        } else {
            // It syncs the directory too, and with that the names of earlier files.
            fs::create_dir_all(dir)?;
        }
        let file = File::create(path(dir, index))?;
        file.set_len(length)?;
        file.sync_all()?;
        if rig::is_to_sync_directory() {
            sync_dir(dir)?;
        }
        Ok(Self { file, index, length })
    }
}

impl Log {
    /// Writes a file's head, durably. The head has the file's number and length.
    pub(super) fn begin(dir: &Path, blank: Blank, head: Head, seed: u64) -> io::Result<Self> {
        let mut file = blank.file;
        file.write_all(&head.print(seed))?;
        // The file has its length already, so only its data has to be synced.
        file.sync_data()?;
        #[cfg(not(test))]
        let _ = dir;
        Ok(Self {
            file,
            head,
            seed,
            written: HEAD as u64,
            is_synced: true,
            #[cfg(test)]
            faults: super::faults::Faults::of(dir),
        })
    }

    pub(super) fn index(&self) -> u64 {
        self.head.index
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// Where the last record ends.
    pub(super) fn end(&self) -> u64 {
        self.written
    }

    pub(super) fn length(&self) -> u64 {
        self.head.length
    }

    /// After an error the file must not be written any more: it is unknown how much was written.
    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_write(&mut self.file, record)?;
        self.file.write_all(record)?;
        self.written += record.len() as u64;
        self.is_synced = false;
        Ok(())
    }

    /// After an error it is unknown what is on the disk, even if a later call succeeds.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if !self.is_synced {
            #[cfg(test)]
            self.faults.before_sync()?;
            // The length does not change, so only the file's data has to be synced.
            if rig::is_to_sync(&self.file)? {
                self.file.sync_data()?;
            }
            self.is_synced = true;
        }
        Ok(())
    }

    /// Checks that the file is still in this directory and has its length. Writing to a file that was removed
    /// or replaced gives no error, but the next process would not find what was written.
    pub(super) fn check(&self, dir: &Path) -> Result<(), Fault> {
        let (path, name) = (path(dir, self.head.index), format!("log/{:016}", self.head.index));
        let ours = self.file.metadata().map_err(Fault::io("checked"))?;
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Fault::moved(format!("the file `{name}` is gone")))
            }
            Err(error) => Err(Fault::Io("checked", error)),
            Ok(found)
                if Identity::from(&found).is_same_file(Identity::from(&ours))
                    && found.len() == self.head.length =>
            {
                Ok(())
            }
            Ok(_) => Err(Fault::moved(format!("the file `{name}` was replaced"))),
        }
    }

    pub(super) fn is_synced(&self) -> bool {
        self.is_synced
    }
}

impl Head {
    pub(super) fn print(self, seed: u64) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let fields = [self.index, self.first, self.length, self.is_durable.into()];
        bytes[..8].copy_from_slice(&MAGIC);
        for (place, field) in bytes[8..HEAD - 8].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        let checksum = xxh3_64_with_seed(&bytes[..HEAD - 8], seed);
        bytes[HEAD - 8..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` if the bytes are not a head.
    pub(super) fn parse(bytes: &[u8], seed: u64) -> Option<Self> {
        let field = |n: usize| Some(u64::from_le_bytes(*bytes.get(8 * n..)?.first_chunk()?));
        let head = Self {
            index: field(1)?,
            first: field(2)?,
            length: field(3)?,
            is_durable: field(4)? == 1,
        };
        (bytes.get(..HEAD)? == head.print(seed)).then_some(head)
    }
}

/// The files of a log, in order. Other files are ignored.
pub(super) fn files(dir: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut indices = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let index = name.to_str().and_then(|name| name.parse().ok());
        indices.extend(index.filter(|index| path(dir, *index).ends_with(&name)));
    }
    indices.sort_unstable();
    Ok(indices)
}

pub(super) fn path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{index:016}"))
}

/// Removes the files of a log that are obsolete, the oldest first, so that the remaining files have no gap.
pub(super) fn remove(dir: &Path, is_obsolete: impl Fn(u64) -> bool) -> io::Result<()> {
    for index in files(dir)?.into_iter().filter(|index| is_obsolete(*index)) {
        fs::remove_file(path(dir, index))?;
    }
    Ok(())
}
