//! Files that are not as they were written: an error, or the right rows; never wrong ones, and never
//! fewer than were acknowledged.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use partykit_core::{Backend, Batch, RoomAddress, Timestamp, WakeUp};
use partykit_runtime_tokio::store::{DiskBackend, Durability, StoreError};
use tempfile::TempDir;

use super::support::{address, directory, open, puts, rows, write};

const ROOMS: usize = 12;

/// How many positions of a file are tried.
const POSITIONS: usize = 40;

/// The files of a store, each up to its last byte that is not zero, and its length.
pub(crate) type Files = BTreeMap<PathBuf, (Vec<u8>, u64)>;

/// What all rooms have, and their wake-ups.
type Content = (Vec<Vec<(Bytes, Bytes)>>, Vec<(Timestamp, RoomAddress)>);

/// A store of three lives, so that there are files of the tree and a log; as it is after its end, and as
/// it is when its process is killed.
struct Sample {
    _directory: TempDir,
    closed: Files,
    killed: Files,
    content: Content,
}

impl Sample {
    async fn make() -> Self {
        let directory = directory();
        let path = directory.path().join("store");
        for life in 0..3 {
            let store = open(&path);
            for n in 0..ROOMS {
                let room = address(format!("room {n}"));
                let wake_up = Some(WakeUp::At(Timestamp::from_millis((n * 7 % 5) as u64)));
                let batch = puts((0..6).map(|k| (format!("{life}/{k}"), vec![b'a' + k; 90])));
                write(&store, &room, Batch { wake_up, ..batch }).await.unwrap();
                let changed = puts([("changes", format!("in life {life}"))]);
                write(&store, &room, changed).await.unwrap();
            }
            if life == 2 {
                let killed = read(&path);
                let content = content(&store).await.unwrap();
                store.close().await;
                return Self { closed: read(&path), killed, content, _directory: directory };
            }
            store.close().await;
        }
        unreachable!("the third life is the last")
    }

    fn states(&self) -> [(&'static str, &Files); 2] {
        [("closed", &self.closed), ("killed", &self.killed)]
    }

    /// Opens a store of these files: its error, or whether it has what it should.
    async fn judge(&self, files: &Files, what: &str) -> Option<StoreError> {
        let directory = directory();
        let path = directory.path().join("store");
        put(&path, files);
        let store = match DiskBackend::open(&path, Durability::Relaxed) {
            Ok(store) => store,
            Err(error) => {
                assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
                return Some(error);
            }
        };
        match content(&store).await {
            Ok(content) => assert!(content == self.content, "wrong rows, silently: {what}"),
            Err(error) => assert!(error.to_string().contains("damaged"), "{what}: {error}"),
        }
        None
    }
}

async fn content(store: &DiskBackend) -> Result<Content, partykit_core::BackendError> {
    let mut all = Vec::new();
    for n in 0..ROOMS {
        all.push(rows(store, &address(format!("room {n}"))).await?);
    }
    Ok((all, store.wake_ups(None, usize::MAX).await?))
}

pub(crate) fn read(path: &Path) -> Files {
    let mut files = Files::new();
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
                continue;
            }
            let mut bytes = fs::read(entry.path()).unwrap();
            let length = bytes.len() as u64;
            let used = used(&bytes);
            bytes.truncate(used);
            files.insert(entry.path().strip_prefix(path).unwrap().to_owned(), (bytes, length));
        }
    }
    files
}

/// The length up to the last byte that is not zero.
fn used(bytes: &[u8]) -> usize {
    let zeros = [0; 4096];
    let chunk = bytes.chunks(4096).rposition(|chunk| chunk != &zeros[..chunk.len()]);
    let begin = chunk.map_or(0, |chunk| chunk * 4096);
    let end = bytes.len().min(begin + 4096);
    let last = bytes[begin..end].iter().rposition(|byte| *byte != 0);
    last.map_or(0, |last| begin + last + 1)
}

pub(crate) fn put(path: &Path, files: &Files) {
    for (name, (bytes, length)) in files {
        let path = path.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(*length).unwrap();
    }
}

#[tokio::test]
async fn files_as_they_were_are_right() {
    let sample = Sample::make().await;
    for (state, files) in sample.states() {
        assert!(sample.judge(files, state).await.is_none(), "{state}");
        let names: Vec<_> = files.keys().map(|name| name.display().to_string()).collect();
        for part in ["store", "log/", "tree/current", "tree/tables/"] {
            assert!(names.iter().any(|name| name.starts_with(part)), "{part} of {names:?}");
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_is_an_error_or_does_not_matter() {
    let sample = Sample::make().await;
    for (state, files) in sample.states() {
        for (name, (bytes, length)) in files {
            // Some positions in each file, each with another bit; and one behind its end.
            let step = (bytes.len() / POSITIONS).max(1) | 1;
            let mut errors = 0;
            for position in (0..bytes.len() + step).step_by(step) {
                if position as u64 >= *length {
                    continue;
                }
                let mut flipped = bytes.clone();
                flipped.resize(flipped.len().max(position + 1), 0);
                flipped[position] ^= 1 << (position % 8);
                let mut files = files.clone();
                files.insert(name.clone(), (flipped, *length));
                let what = format!("{state}: {}, byte {position}", name.display());
                errors += usize::from(sample.judge(&files, &what).await.is_some());
            }
            // Blocks of the tree are checked when they are read, everything else when it is opened.
            let is_checked = !name.starts_with("tree/tables") && !bytes.is_empty();
            assert_eq!(errors > 0, is_checked || errors > 0, "{state}: {}", name.display());
        }
    }
}

#[tokio::test]
async fn a_missing_end_or_file_is_an_error_or_does_not_matter() {
    let sample = Sample::make().await;
    for (state, files) in sample.states() {
        for (name, (bytes, _)) in files {
            let lengths = (0..bytes.len()).step_by((bytes.len() / (POSITIONS / 5)).max(1));
            for length in lengths {
                let mut files = files.clone();
                files.insert(name.clone(), (bytes[..length].to_vec(), length as u64));
                let what = format!("{state}: {}, {length} bytes of it", name.display());
                let error = sample.judge(&files, &what).await;
                if name.starts_with("log") {
                    assert!(matches!(error, Some(StoreError::Damaged { .. })), "{what}: {error:?}");
                }
            }
            let mut without = files.clone();
            without.remove(name);
            let what = format!("{state}: without {}", name.display());
            let error = sample.judge(&without, &what).await;
            let is_needed = !bytes.is_empty();
            assert_eq!(error.is_some(), is_needed, "{what}: {error:?}");
        }
    }
}

/// What a crash leaves when it comes before the last record was synced: no error, and all but that
/// record.
#[tokio::test]
async fn a_record_that_was_never_acknowledged_may_be_torn() {
    let sample = Sample::make().await;
    let directory = directory();
    let path = directory.path().join("store");
    put(&path, &sample.killed);
    let store = open(&path);
    let before = content(&store).await.unwrap();
    let unsynced = puts((0..20).map(|k| (format!("{k}"), vec![b'x'; 400])));
    let with_record = {
        write(&store, &address("room 0"), puts([("before", "it")])).await.unwrap();
        let without = read(&path);
        write(&store, &address("room 0"), unsynced).await.unwrap();
        (without, read(&path))
    };
    let (without, with) = with_record;
    let log = with.keys().find(|name| name.starts_with("log")).unwrap().clone();
    let (begin, end) = (without[&log].0.len(), with[&log].0.len());
    let length = with[&log].1;
    assert!(end - begin > 8000);
    let mut expected = before.clone();
    expected.0[0] = [&expected.0[0][..], &[("before".into(), "it".into())]].concat();
    expected.0[0].sort();
    let torn = |bytes: Vec<u8>| {
        let mut files = with.clone();
        files.insert(log.clone(), (bytes, length));
        files
    };
    // Its end is missing, from anywhere on; or one sector is, or all but one.
    let mut cases: Vec<Vec<u8>> =
        (begin..end).step_by(797).map(|cut| with[&log].0[..cut].to_vec()).collect();
    let sectors = (begin.next_multiple_of(512)..end - 512).step_by(512);
    for sector in sectors.clone() {
        let mut bytes = with[&log].0.clone();
        bytes[sector..sector + 512].fill(0);
        cases.push(bytes);
        let mut bytes = with[&log].0.clone();
        bytes[begin..sector].fill(0);
        bytes[sector + 512..].fill(0);
        cases.push(bytes);
    }
    for (case, bytes) in cases.into_iter().enumerate() {
        let directory = super::support::directory();
        put(directory.path(), &torn(bytes));
        let store = match DiskBackend::open(directory.path(), Durability::Durable) {
            Ok(store) => store,
            Err(error) => panic!("case {case}: {error}"),
        };
        assert!(content(&store).await.unwrap() == expected, "case {case}");
    }
    // An acknowledged one may not: here another record follows.
    write(&store, &address("room 1"), puts([("next", "one")])).await.unwrap();
    let with = read(&path);
    for sector in sectors {
        let mut files = with.clone();
        files.get_mut(&log).unwrap().0[sector..sector + 512].fill(0);
        let directory = super::support::directory();
        put(directory.path(), &files);
        let error = DiskBackend::open(directory.path(), Durability::Durable).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }
}

/// A process that fails while it replaces the list of the tree's files, and dies while it tries that again, leaves the
/// second list as a half under the name of the first.
#[tokio::test]
async fn a_list_that_was_not_replaced_whole_gives_way_to_the_one_before() {
    let directory = directory();
    let (path, room) = (directory.path().join("store"), address("room"));
    let store = open(&path);
    write(&store, &room, puts([("in", "the tree")])).await.unwrap();
    store.close().await;
    drop(store);
    // The second life writes the log of the first to the tree.
    let store = open(&path);
    write(&store, &room, puts([("in the", "log")])).await.unwrap();
    let expected = rows(&store, &room).await.unwrap();
    let tree = path.join("tree");
    let current = fs::read(tree.join("current")).unwrap();
    let number = u64::from_le_bytes(current[..8].try_into().unwrap());
    let next = [&(number + 1).to_le_bytes()[..], &[7; 16], &[0]].concat();
    let lists = |killed: &Path| {
        fs::write(killed.join("tree/current"), &next).unwrap();
        fs::write(killed.join(format!("tree/v{}", number + 1)), "half of").unwrap();
    };
    let killed = directory.path().join("killed");
    copy(&path, &killed);
    lists(&killed);
    let again = open(&killed);
    assert_eq!(rows(&again, &room).await.unwrap(), expected);
    write(&again, &room, puts([("and", "on")])).await.unwrap();
    again.close().await;
    drop(again);
    let again = open(&killed);
    assert_eq!(rows(&again, &room).await.unwrap().len(), expected.len() + 1);

    // What is neither in the list before nor in the log is missed.
    let lost = directory.path().join("lost");
    copy(&path, &lost);
    lists(&lost);
    for file in fs::read_dir(lost.join("log")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    let is_wrong = format!("`tree/v{}` is not as it was written", number + 1);
    let error = DiskBackend::open(&lost, Durability::Durable).unwrap_err().to_string();
    assert!(error.contains(&is_wrong), "{error}");
    assert_eq!(fs::read(lost.join("tree/current")).unwrap(), next, "nothing is changed");

    // No list is left.
    let bare = directory.path().join("bare");
    copy(&path, &bare);
    lists(&bare);
    fs::remove_file(bare.join(format!("tree/v{number}"))).unwrap();
    let error = DiskBackend::open(&bare, Durability::Durable).unwrap_err().to_string();
    assert!(error.contains(&is_wrong), "{error}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}
