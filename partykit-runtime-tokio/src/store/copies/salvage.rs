use std::path::Path;

use partykit_core::RoomAddress;

use super::{
    super::{DiskBackend, Durability},
    CopyError, Finding, LoadOptions, Progress, Selection, Stage, Teller,
    error::of_store,
    load::{OpenRoom, Writer, wait},
    partial::{Partial, check_place},
    rooms::{Item, Rooms},
    view::View,
};

/// How a damaged store is salvaged.
///
/// ```
/// use partykit_runtime_tokio::store::SalvageOptions;
///
/// let options = SalvageOptions::new().doubtful(true);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SalvageOptions {
    doubtful: bool,
}

impl SalvageOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether doubtful rows are saved too. A doubtful row may be out of date or removed, because a newer
    /// value may have been in a lost part. Default: no.
    #[must_use]
    pub fn doubtful(mut self, doubtful: bool) -> Self {
        self.doubtful = doubtful;
        self
    }
}

/// What could be read from a damaged store.
///
/// ```
/// use partykit_runtime_tokio::store::Salvage;
///
/// fn is_all_there(found: &Salvage) -> bool {
///     found.lost_commits.is_none() && found.incomplete.is_empty()
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvage {
    /// How many rooms have rows left.
    pub rooms: u64,
    /// How many rows are left.
    pub rows: u64,
    /// How many rooms have a wake-up left.
    pub wake_ups: u64,
    /// The number of the last commit that is left. The rooms are as they were after it.
    pub commit: u64,
    /// Why later commits are lost. `None` if no commit is lost.
    pub lost_commits: Option<String>,
    /// What is damaged or missing: the files, the positions, and the keys that were there.
    pub findings: Vec<Finding>,
    /// The rooms that lack rows, or may lack some. With doubtful rows, also the rooms that may have outdated
    /// rows. A room that is lost completely is not listed, because its name is lost too.
    pub incomplete: Vec<RoomAddress>,
}

/// Finds out what is left of a store that does not open, and saves it into a new directory if `into` is
/// given. The store itself is not changed.
///
/// Saved rows are correct: they are as they were after one commit, the [last](Salvage::commit) one before the
/// first lost commit. Rows in a damaged part are missing. Rows of which only an older value is left are
/// missing too, unless [doubtful](SalvageOptions::doubtful) rows are wanted. [`Salvage::incomplete`] lists
/// the rooms that lack something.
///
/// Blocks while it reads and writes. `into` is written under its name with `.partial` at the end, and renamed
/// when it is complete.
///
/// ```no_run
/// use std::path::Path;
/// use partykit_runtime_tokio::store::{self, SalvageOptions};
///
/// let options = SalvageOptions::new();
/// let found = store::salvage("/var/lib/board", None, options, |_| ())?;
/// for finding in &found.findings {
///     println!("{finding}");
/// }
/// let into = Path::new("/var/lib/board.saved");
/// store::salvage("/var/lib/board", Some(into), options, |progress| println!("{progress}"))?;
/// # Ok::<(), store::CopyError>(())
/// ```
///
/// # Errors
///
/// When there is no store, when it is in use or has a later format; when `into` exists, is inside the store,
/// or cannot be written; [`CopyError::Doubtful`] when it is not known which rows are the newest, and doubtful
/// rows are not wanted.
pub fn salvage(
    path: impl AsRef<Path>,
    into: Option<&Path>,
    options: SalvageOptions,
    mut progress: impl FnMut(Progress),
) -> Result<Salvage, CopyError> {
    let path = path.as_ref();
    let view = View::closed(path).map_err(of_store(path))?;
    let view = view.ok_or_else(|| CopyError::Missing { path: path.to_owned() })?;
    if view.is_doubtful && !options.doubtful {
        let first = view.findings.first();
        let what = first.map_or_else(|| "the mark is lost".to_owned(), ToString::to_string);
        return Err(CopyError::Doubtful { path: path.to_owned(), what });
    }
    let Some(into) = into else { return save(&view, None, options, &mut progress) };
    check_place(path, into)?;
    let partial = Partial::make(into)?;
    let backend = DiskBackend::open(partial.path(), Durability::Relaxed)?;
    let writer = Writer::new(&backend, LoadOptions::new());
    let saved = save(&view, Some(&writer), options, &mut progress)?;
    wait(backend.close());
    drop(backend);
    partial.check(&mut progress)?.finish()?;
    Ok(saved)
}

fn save(
    view: &View,
    writer: Option<&Writer<'_>>,
    options: SalvageOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Salvage, CopyError> {
    let failed = || of_store(&view.path);
    let mut teller = Teller::new(Stage::Reading, None, progress);
    let mut saved = Salvage {
        commit: view.number,
        lost_commits: view.lost.clone(),
        findings: view.findings.clone(),
        ..Salvage::default()
    };
    let rooms = Rooms::new(view, &Selection::All).map_err(failed())?;
    let (mut rooms, mut read) = (rooms.with_doubtful(options.doubtful), 0);
    let mut room: Option<Saving> = None;
    loop {
        let item = rooms.next().map_err(failed())?;
        if let (None | Some(Item::Room { .. }), Some(done)) = (&item, &mut room) {
            done.is_incomplete |= rooms.is_incomplete(&done.address);
        }
        match item {
            None => break,
            Some(Item::Room { address, wake_up }) => {
                finish(room.take(), writer, &mut saved)?;
                let mut begun =
                    Saving { address, open: None, has_any: false, is_incomplete: false };
                if let Some(at) = wake_up {
                    saved.wake_ups += 1;
                    begun.has_any = true;
                    if let Some(writer) = writer {
                        writer.wake_up(begun.open(writer)?, at);
                    }
                }
                room = Some(begun);
            }
            Some(Item::Row { key, value }) => {
                let Some(room) = &mut room else { continue };
                saved.rows += 1;
                room.has_any = true;
                if let Some(writer) = writer {
                    writer.row(room.open(writer)?, key, value)?;
                }
            }
            Some(Item::Doubtful) => {
                if let Some(room) = &mut room {
                    room.is_incomplete = true;
                }
            }
        }
        teller.add(rooms.read() - read);
        read = rooms.read();
    }
    finish(room, writer, &mut saved)?;
    for finding in rooms.holes().map(|hole| hole.finding()) {
        if !saved.findings.contains(&finding) {
            saved.findings.push(finding);
        }
    }
    saved.findings.append(&mut rooms.findings);
    Ok(saved)
}

/// A room that is being saved.
struct Saving {
    address: RoomAddress,
    open: Option<OpenRoom>,
    has_any: bool,
    is_incomplete: bool,
}

impl Saving {
    fn open(&mut self, writer: &Writer<'_>) -> Result<&mut OpenRoom, CopyError> {
        Ok(match &mut self.open {
            Some(open) => open,
            open => open.insert(writer.begin(self.address.clone())?),
        })
    }
}

fn finish(
    room: Option<Saving>,
    writer: Option<&Writer<'_>>,
    saved: &mut Salvage,
) -> Result<(), CopyError> {
    let Some(room) = room else { return Ok(()) };
    saved.rooms += u64::from(room.has_any);
    if let (Some(writer), Some(open)) = (writer, room.open) {
        writer.end(open)?;
    }
    if room.is_incomplete {
        saved.incomplete.push(room.address);
    }
    Ok(())
}
