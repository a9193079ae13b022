use std::{collections::HashSet, path::Path};

use partykit_core::{RoomAddress, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    super::error::Fault,
    CopyError, Finding, Progress, Selection, Stage, Teller,
    error::of_store,
    layout::{self, GENERATION, Key, MARK, ROW, TIME, WAKE},
    rooms::{Item, Rooms},
    table,
    view::{View, table_name},
};

/// What [`verify`] found in a store.
///
/// ```
/// let nothing = partykit_runtime_tokio::store::Verification::default();
/// assert!(nothing.is_sound());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// How many rooms have rows or a wake-up.
    pub rooms: u64,
    /// How many rows they have, including the framework's own rows.
    pub rows: u64,
    /// How many rooms have a wake-up.
    pub wake_ups: u64,
    /// The bytes of keys and values of all rows.
    pub bytes: u64,
    /// The number of the last commit.
    pub commit: u64,
    /// How many files of the tree were compared with their checksums.
    pub files: u64,
    /// How many deleted rows of cleared rooms are still in the files. The store removes them later by itself.
    pub dead_rows: u64,
    /// What is wrong. Empty if the store is whole.
    pub findings: Vec<Finding>,
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Reads a whole store, for example a backup, and lists what is wrong with it. No process may have the store
/// open. Writes nothing.
///
/// It compares every file of the tree with its checksum, and every record of the log; it reads all rows of
/// all rooms; it compares the wake-ups of rooms with their index, and the rows with the generations of their
/// rooms. It finds every flipped bit that has a meaning.
///
/// Blocks while it reads. In async code, call it in Tokio's `spawn_blocking`.
///
/// ```
/// # use partykit_core::{Backend, Batch, RoomAddress, RoomId};
/// # use partykit_runtime_tokio::store::{DiskBackend, Durability};
/// use partykit_runtime_tokio::store;
///
/// # #[tokio::main]
/// # async fn main() -> partykit_core::Result {
/// # let directory = tempfile::tempdir()?;
/// # let data = directory.path().join("data");
/// # let backend = DiskBackend::open(&data, Durability::Durable)?;
/// # let room = RoomAddress::new("chat", RoomId::new("lobby")?);
/// # let epoch = backend.claim(&room).await?.epoch;
/// # let writes = [("topic".into(), Some("rust".into()))].into();
/// # backend.commit(&room, epoch, Batch { writes, ..Batch::default() }).await?;
/// # drop(backend);
/// let report = store::verify(&data, |progress| eprintln!("{progress}"))?;
/// assert!(report.is_sound(), "{:?}", report.findings);
/// assert_eq!((report.rooms, report.rows), (1, 1));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// When there is no store, or when it is in use, has a later format or cannot be read. Damage is not an error
/// but a [finding](Verification::findings).
pub fn verify(
    path: impl AsRef<Path>,
    mut progress: impl FnMut(Progress),
) -> Result<Verification, CopyError> {
    let path = path.as_ref();
    let view = View::closed(path).map_err(of_store(path))?;
    let view = view.ok_or_else(|| CopyError::Missing { path: path.to_owned() })?;
    check(&view, &mut progress)
}

pub(super) fn check(
    view: &View,
    progress: &mut dyn FnMut(Progress),
) -> Result<Verification, CopyError> {
    let failed = of_store(&view.path);
    let mut found = Verification {
        commit: view.number,
        findings: view.findings.clone(),
        ..Verification::default()
    };
    let mut checks = || {
        check_files(view, &mut found, progress)?;
        let sum = check_rooms(view, &mut found, progress)?;
        check_index(view, &mut found, sum)?;
        check_generations(view, &mut found)?;
        check_rest(view, &mut found)
    };
    checks().map_err(failed)?;
    let mut seen = HashSet::new();
    found
        .findings
        .retain(|finding| seen.insert((finding.file.clone(), finding.at, finding.what.clone())));
    Ok(found)
}

/// Compares all files of the tree with their checksums.
fn check_files(
    view: &View,
    found: &mut Verification,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Fault> {
    let tables: Vec<_> = view.runs.iter().flatten().collect();
    let length =
        |table: &&super::merge::Table| std::fs::metadata(&table.path).map_or(0, |it| it.len());
    let total = tables.iter().map(length).sum();
    let mut teller = Teller::new(Stage::Checking, Some(total), progress);
    for (table, listed) in tables.iter().zip(&view.listed) {
        let Some(file) = table.open().map_err(Fault::io("read"))? else { continue };
        let checksum = table::checksum(&file, |bytes| teller.add(bytes));
        if checksum.map_err(Fault::io("read"))?.0 != listed.checksum {
            let what = "its checksum is not the one in the list of files";
            found.findings.push(Finding::new(table_name(table.id), None, what));
        }
        found.files += 1;
    }
    Ok(())
}

/// Reads all rows. Returns the sum of all wake-ups.
fn check_rooms(
    view: &View,
    found: &mut Verification,
    progress: &mut dyn FnMut(Progress),
) -> Result<Sum, Fault> {
    let mut teller = Teller::new(Stage::Reading, None, progress);
    let (mut rooms, mut sum, mut read) = (Rooms::new(view, &Selection::All)?, Sum::default(), 0);
    while let Some(item) = rooms.next()? {
        match item {
            Item::Room { address, wake_up } => {
                found.rooms += 1;
                if let Some(at) = wake_up {
                    found.wake_ups += 1;
                    sum.add(at, &address);
                }
            }
            Item::Row { key, value } => {
                found.rows += 1;
                found.bytes += (key.len() + value.len()) as u64;
            }
            // A part of a file is damaged or missing. The holes are reported below.
            Item::Doubtful => {}
        }
        teller.add(rooms.read() - read);
        read = rooms.read();
    }
    found.dead_rows = rooms.dead;
    found.findings.extend(rooms.holes().map(|hole| hole.finding()));
    found.findings.append(&mut rooms.findings);
    Ok(sum)
}

/// Compares the index of wake-ups with the wake-ups of rooms.
fn check_index(view: &View, found: &mut Verification, of_rooms: Sum) -> Result<(), Fault> {
    let mut wakes = view.rows(&[WAKE], Some(&[WAKE + 1]))?;
    let mut of_index = Sum::default();
    while let Some(row) = wakes.next().map_err(Fault::io("read"))? {
        match Key::parse(&row.key) {
            Some(Key::Wake(at, room)) => of_index.add(at, &room),
            _ => senseless(found, &row.key),
        }
    }
    found.findings.extend(wakes.holes.iter().map(|hole| hole.finding()));
    if of_index != of_rooms {
        let what = format!(
            "the index of wake-ups does not match the rooms: it has {} wake-ups, the rooms have {}",
            of_index.count, of_rooms.count
        );
        found.findings.push(Finding::new("tree", None, what));
    }
    Ok(())
}

fn check_generations(view: &View, found: &mut Verification) -> Result<(), Fault> {
    let mut rows = view.rows(&[GENERATION], Some(&[GENERATION + 1]))?;
    while let Some(row) = rows.next().map_err(Fault::io("read"))? {
        match (Key::parse(&row.key), layout::number(&row.value)) {
            (Some(Key::Generation(_)), Some(generation)) if generation <= view.number => {}
            (Some(Key::Generation(room)), Some(generation)) => {
                let what = format!(
                    "{room} was cleared by commit {generation}, and {} is the last one",
                    view.number
                );
                found.findings.push(Finding::new("tree", None, what));
            }
            _ => senseless(found, &row.key),
        }
    }
    found.findings.extend(rows.holes.iter().map(|hole| hole.finding()));
    Ok(())
}

/// Reads the ranges between the known kinds of keys, which must be empty.
fn check_rest(view: &View, found: &mut Verification) -> Result<(), Fault> {
    let kinds = [GENERATION, MARK, ROW, TIME, WAKE];
    let mut start = Vec::new();
    for end in kinds.into_iter().map(Some).chain([None]) {
        let end = end.map(|end| [end]);
        let mut rows = view.rows(&start, end.as_ref().map(|end| &end[..]))?;
        while let Some(row) = rows.next().map_err(Fault::io("read"))? {
            senseless(found, &row.key);
        }
        found.findings.extend(rows.holes.iter().map(|hole| hole.finding()));
        start = end.map_or_else(Vec::new, |[end]| vec![end + 1]);
    }
    Ok(())
}

fn senseless(found: &mut Verification, key: &[u8]) {
    let what = format!("a row makes no sense: {}", layout::describe(key));
    found.findings.push(Finding::new("tree", None, what));
}

/// A sum over a set of wake-ups. Their order does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    sum: u64,
}

impl Sum {
    fn add(&mut self, at: Timestamp, room: &RoomAddress) {
        let bytes = [&at.as_millis().to_be_bytes()[..], &layout::prefix(WAKE, room)].concat();
        self.count += 1;
        self.sum = self.sum.wrapping_add(xxh3_64(&bytes));
    }
}
