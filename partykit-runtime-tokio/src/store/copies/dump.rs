use std::{io::Write, path::Path};

use partykit_core::RoomAddress;

use super::{
    super::{DiskBackend, error::Fault},
    CopyError, Finding, Progress, Selection, Stage, Teller,
    error::of_store,
    line::{End, Line, Text, VERSION},
    rooms::{Item, Rooms},
    view::View,
};

/// What was written to a dump.
///
/// ```
/// let nothing = partykit_runtime_tokio::store::Dump::default();
/// assert_eq!((nothing.rooms, nothing.rows), (0, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dump {
    /// How many rooms.
    pub rooms: u64,
    /// How many rows, including the framework's own rows.
    pub rows: u64,
    /// How many rooms have a wake-up.
    pub wake_ups: u64,
    /// The number of the last commit in the dump.
    pub commit: u64,
}

/// Writes the rooms of a store as text: one JSON object a line. No process may have the store open. The store
/// is not changed.
///
/// ```text
/// {"partykit_dump":1,"commit":7}
/// {"party":"chat","room":"lobby","wake_up":1767225600000}
/// {"party":"chat","room":"lobby","key":"topic","value":"\"rust\""}
/// {"party":"chat","room":"lobby","key":"picture","value":{"base64":"/9g="}}
/// {"end":{"rooms":1,"rows":2,"wake_ups":1}}
/// ```
///
/// Keys and values are text if they are UTF-8, and base64 if not. Keys that begin with `\u0000` are the
/// framework's, for example an alarm; the field `means` explains such a row to people, and
/// [`load`](super::load) ignores it. The lines of a room are together. Its `wake_up`, in milliseconds since
/// 1970, comes first. The last line has the counts, so a dump that was cut short is noticed.
///
/// Blocks while it reads and writes. Give it a writer with a buffer.
///
/// ```
/// # use partykit_core::{Backend, Batch, RoomAddress, RoomId};
/// # use partykit_runtime_tokio::store::{DiskBackend, Durability};
/// use partykit_runtime_tokio::store::{self, Selection};
///
/// # #[tokio::main]
/// # async fn main() -> partykit_core::Result {
/// # let directory = tempfile::tempdir()?;
/// # let (data, copy) = (directory.path().join("data"), directory.path().join("copy"));
/// # let backend = DiskBackend::open(&data, Durability::Durable)?;
/// # let room = RoomAddress::new("chat", RoomId::new("lobby")?);
/// # let epoch = backend.claim(&room).await?.epoch;
/// # let writes = [("topic".into(), Some("rust".into()))].into();
/// # backend.commit(&room, epoch, Batch { writes, ..Batch::default() }).await?;
/// # drop(backend);
/// let mut text = Vec::new();
/// let dump = store::dump(&data, &Selection::room("chat", "lobby")?, &mut text, |_| ())?;
/// assert_eq!(dump.rows, 1);
///
/// store::load(&text[..], &copy, store::LoadOptions::new(), |_| ())?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// When there is no store, when it is in use or damaged, or when the writer fails. The dump then has no last
/// line.
pub fn dump(
    path: impl AsRef<Path>,
    selection: &Selection,
    writer: impl Write,
    mut progress: impl FnMut(Progress),
) -> Result<Dump, CopyError> {
    let path = path.as_ref();
    let view = View::closed(path).map_err(of_store(path))?;
    let view = view.ok_or_else(|| CopyError::Missing { path: path.to_owned() })?;
    write(&view, selection, writer, &mut progress)
}

impl DiskBackend {
    /// The same as [`store::dump`](dump), while the store is in use. The dump has all rooms as they are at
    /// one moment between the call and its end, with every commit that was answered before the call.
    ///
    /// Returns the writer. Until then, the files of the tree are held open: one for about 16 MiB of rows.
    ///
    /// ```
    /// # use partykit_runtime_tokio::store::{DiskBackend, Durability};
    /// use partykit_runtime_tokio::store::Selection;
    ///
    /// # async fn night(store: DiskBackend) -> Result<(), Box<dyn std::error::Error>> {
    /// let file = std::io::BufWriter::new(std::fs::File::create("chat.jsonl")?);
    /// let (dump, file) = store.dump(Selection::party("chat"), file, |_| ()).await?;
    /// file.into_inner()?.sync_all()?;
    /// println!("{} rooms", dump.rooms);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store is damaged or has failed, or when the writer fails.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn dump<W: Write + Send + 'static>(
        &self,
        selection: Selection,
        mut writer: W,
        mut progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<(Dump, W), CopyError> {
        self.opened().await?;
        let path = self.path().to_owned();
        let work = move || {
            let view = View::live(&path).map_err(of_store(&path))?;
            let dump = write(&view, &selection, &mut writer, &mut progress)?;
            Ok((dump, writer))
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(of_store(self.path())(Fault::damage(format!(
                "the task of a dump ended: {error}"
            )))),
        }
    }
}

fn write(
    view: &View,
    selection: &Selection,
    writer: impl Write,
    progress: &mut dyn FnMut(Progress),
) -> Result<Dump, CopyError> {
    let damaged = |finding: &Finding| of_store(&view.path)(Fault::damage(finding.to_string()));
    if let Some(finding) = view.findings.first() {
        return Err(damaged(finding));
    }
    let failed = || of_store(&view.path);
    let mut teller = Teller::new(Stage::Reading, None, progress);
    let mut lines = Lines { writer, path: &view.path };
    lines.head(view.number)?;
    let mut dump = Dump { commit: view.number, ..Dump::default() };
    let mut rooms = Rooms::new(view, selection).map_err(failed())?;
    let (mut room, mut read) = (None, 0);
    loop {
        let item = rooms.next().map_err(failed())?;
        if let Some(hole) = rooms.holes().next() {
            return Err(damaged(&hole.finding()));
        }
        if let Some(finding) = rooms.findings.first() {
            return Err(damaged(finding));
        }
        match item {
            None => break,
            Some(Item::Room { address, wake_up }) => {
                dump.rooms += 1;
                if let Some(at) = wake_up {
                    dump.wake_ups += 1;
                    let wake_up = Some(at.as_millis());
                    lines.write(&Line { wake_up, ..of_room(&address) })?;
                }
                room = Some(address);
            }
            Some(Item::Row { key, value }) => {
                dump.rows += 1;
                let line = room.as_ref().map_or_else(Line::default, of_room);
                let means = partykit_core::runtime::describe_row(&key, &value);
                let means = means.and_then(|means| serde_json::from_str(&means).ok());
                let (key, value) = (Some(Text::of(&key)), Some(Text::of(&value)));
                lines.write(&Line { key, value, means, ..line })?;
            }
            // A damaged part is reported as a hole, below.
            Some(Item::Doubtful) => {}
        }
        teller.add(rooms.read() - read);
        read = rooms.read();
    }
    lines.end(dump)?;
    Ok(dump)
}

fn of_room(room: &RoomAddress) -> Line {
    let (party, room) = (Some(room.party().to_owned()), Some(room.room().to_string()));
    Line { party, room, ..Line::default() }
}

struct Lines<'a, W> {
    writer: W,
    path: &'a Path,
}

impl<W: Write> Lines<'_, W> {
    fn head(&mut self, commit: u64) -> Result<(), CopyError> {
        let line = Line { partykit_dump: Some(VERSION), commit: Some(commit), ..Line::default() };
        self.write(&line)
    }

    fn end(&mut self, dump: Dump) -> Result<(), CopyError> {
        let Dump { rooms, rows, wake_ups, .. } = dump;
        self.write(&Line { end: Some(End { rooms, rows, wake_ups }), ..Line::default() })?;
        self.writer.flush().map_err(CopyError::io(self.path, "dumped"))
    }

    fn write(&mut self, line: &Line) -> Result<(), CopyError> {
        let text = serde_json::to_vec(line).map_err(std::io::Error::from);
        let write = text.and_then(|mut text| {
            text.push(b'\n');
            self.writer.write_all(&text)
        });
        write.map_err(CopyError::io(self.path, "dumped"))
    }
}
