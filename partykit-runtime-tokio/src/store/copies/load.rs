use std::{
    io::BufRead,
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use bytes::Bytes;
use partykit_core::{Backend, BackendError, Batch, Epoch, RoomAddress, RoomId, Timestamp, WakeUp};

use super::{
    super::{DiskBackend, Durability, error::Fault},
    CopyError, Progress, Stage, Teller,
    error::of_store,
    line::{End, Line, VERSION},
    partial::Partial,
};

/// How a dump is loaded.
///
/// ```
/// use partykit_runtime_tokio::store::LoadOptions;
///
/// let options = LoadOptions::new().replace(true);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    replace: bool,
}

impl LoadOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a room that has rows already is replaced by the room of the dump. All of its rows are removed
    /// first. Default: no; such a room is an error.
    #[must_use]
    pub fn replace(mut self, replace: bool) -> Self {
        self.replace = replace;
        self
    }
}

/// What was loaded.
///
/// ```
/// let nothing = partykit_runtime_tokio::store::Load::default();
/// assert_eq!((nothing.rooms, nothing.rows), (0, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Load {
    /// How many rooms.
    pub rooms: u64,
    /// How many rows.
    pub rows: u64,
    /// How many rooms are to be woken.
    pub wake_ups: u64,
}

/// Loads a [`dump`](super::dump) into the store in a directory. No process may have the store open.
///
/// If the directory does not exist, it is made under its name with `.partial` at the end, and renamed when
/// everything is loaded. If it exists, the rules of [`load_into`] hold.
///
/// Blocks while it reads and writes.
///
/// # Errors
///
/// When the store is in use, is damaged or cannot be written; when the input is not a complete dump; when a
/// room has rows already and [`LoadOptions::replace`] is off.
pub fn load(
    reader: impl BufRead,
    path: impl AsRef<Path>,
    options: LoadOptions,
    mut progress: impl FnMut(Progress),
) -> Result<Load, CopyError> {
    let path = path.as_ref();
    if path.symlink_metadata().is_ok() {
        let backend = DiskBackend::open(path, Durability::Durable)?;
        let load = load_into(reader, &backend, options, progress)?;
        wait(backend.close());
        return Ok(load);
    }
    let partial = Partial::make(path)?;
    let backend = DiskBackend::open(partial.path(), Durability::Relaxed)?;
    let load = read(reader, &Writer::new(&backend, options), &mut progress)?;
    wait(backend.close());
    drop(backend);
    partial.check(&mut progress)?.finish()?;
    Ok(load)
}

/// Loads a [`dump`](super::dump) into an open store.
///
/// Each room is one commit. So after an error, each room is either loaded completely or as it was before. A
/// room of more than 32 MiB needs several commits: if loading stops in the middle of it, load it again with
/// [`replace`](LoadOptions::replace).
///
/// Loading claims each room. If a server has the room in memory, it still shows the old rows. Its next write
/// fails, and then it starts the room again with the loaded rows.
///
/// Blocks while it reads and writes.
///
/// # Errors
///
/// See [`load`].
pub fn load_into(
    reader: impl BufRead,
    backend: &DiskBackend,
    options: LoadOptions,
    mut progress: impl FnMut(Progress),
) -> Result<Load, CopyError> {
    read(reader, &Writer::new(backend, options), &mut progress)
}

/// The most bytes of rows in one commit.
const BATCH: usize = 32 << 20;

/// Writes rooms.
pub(super) struct Writer<'a> {
    backend: &'a DiskBackend,
    options: LoadOptions,
}

/// A room that is being written.
pub(super) struct OpenRoom {
    pub(super) address: RoomAddress,
    epoch: Epoch,
    batch: Batch,
    size: usize,
    wake_up: Option<Timestamp>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(backend: &'a DiskBackend, options: LoadOptions) -> Self {
        Self { backend, options }
    }

    pub(super) fn begin(&self, address: RoomAddress) -> Result<OpenRoom, CopyError> {
        let claim = wait(self.backend.claim(&address)).map_err(|error| self.failed(&error))?;
        if !claim.empty && !self.options.replace {
            self.backend.release(&address, claim.epoch);
            return Err(CopyError::RoomExists { room: address });
        }
        let batch = Batch { clear: !claim.empty, ..Batch::default() };
        Ok(OpenRoom { address, epoch: claim.epoch, batch, size: 0, wake_up: None })
    }

    /// Adds a row to the waiting batch. Returns whether the batch did not have its key yet.
    pub(super) fn row(
        &self,
        room: &mut OpenRoom,
        key: Bytes,
        value: Bytes,
    ) -> Result<bool, CopyError> {
        let size = key.len() + value.len();
        if room.size + size > BATCH && room.size > 0 {
            self.commit(room)?;
        }
        room.size += size;
        Ok(room.batch.writes.insert(key, Some(value)).is_none())
    }

    pub(super) fn wake_up(&self, room: &mut OpenRoom, at: Timestamp) {
        room.wake_up = Some(at);
    }

    pub(super) fn end(&self, mut room: OpenRoom) -> Result<(), CopyError> {
        room.batch.wake_up = room.wake_up.map(WakeUp::At);
        let result = self.commit(&mut room);
        self.backend.release(&room.address, room.epoch);
        result
    }

    fn commit(&self, room: &mut OpenRoom) -> Result<(), CopyError> {
        room.size = 0;
        let batch = std::mem::take(&mut room.batch);
        wait(self.backend.commit(&room.address, room.epoch, batch))
            .map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &BackendError) -> CopyError {
        let error = std::io::Error::other(error.to_string());
        of_store(self.backend.path())(Fault::Io("loaded", error))
    }
}

fn read(
    mut reader: impl BufRead,
    writer: &Writer<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Load, CopyError> {
    let mut teller = Teller::new(Stage::Writing, None, progress);
    let (mut load, mut number, mut text) = (Load::default(), 0, Vec::new());
    let (mut room, mut end): (Option<OpenRoom>, Option<End>) = (None, None);
    loop {
        text.clear();
        number += 1;
        let wrong = |what: &str| CopyError::Dump { line: number, what: what.to_owned() };
        let length =
            reader.read_until(b'\n', &mut text).map_err(|error| wrong(&error.to_string()))?;
        if length == 0 {
            break;
        }
        teller.add(length as u64);
        if end.is_some() {
            return Err(wrong("something follows the last line"));
        }
        let line: Line =
            serde_json::from_slice(&text).map_err(|error| wrong(&error.to_string()))?;
        if number == 1 {
            match line.partykit_dump {
                Some(VERSION) => continue,
                Some(_) => return Err(wrong("a later release wrote this dump")),
                None => return Err(wrong("it is not the first line of a dump")),
            }
        }
        if let Some(found) = line.end {
            end = Some(found);
            continue;
        }
        let (Some(party), Some(name)) = (line.party, line.room) else {
            return Err(wrong("it names no party or no room"));
        };
        let name = RoomId::new(name).map_err(|error| wrong(&error.to_string()))?;
        let address = RoomAddress::new(party, name);
        if room.as_ref().is_none_or(|room| room.address != address) {
            if let Some(room) = room.take() {
                writer.end(room)?;
            }
            load.rooms += 1;
            room = Some(writer.begin(address)?);
        }
        let Some(room) = &mut room else { continue };
        match (line.key, line.value, line.wake_up) {
            (Some(key), Some(value), None) => {
                let bytes = |text: super::line::Text| {
                    text.bytes().map_err(|error| wrong(&error.to_string()))
                };
                load.rows += 1;
                if !writer.row(room, bytes(key)?, bytes(value)?)? {
                    return Err(wrong("the room has this key twice"));
                }
            }
            (None, None, Some(at)) => {
                load.wake_ups += 1;
                writer.wake_up(room, Timestamp::from_millis(at));
            }
            _ => return Err(wrong("it is neither a row nor a wake-up")),
        }
    }
    let wrong = |what: String| CopyError::Dump { line: number, what };
    let Some(end) = end else {
        return Err(wrong("the dump was cut: it has no last line".to_owned()));
    };
    let Load { rooms, rows, wake_ups } = load;
    if end != (End { rooms, rows, wake_ups }) {
        let what = format!(
            "the dump lacks a part: its last line says {} rooms, {} rows and {} wake-ups, and it has \
             {rooms}, {rows} and {wake_ups}",
            end.rooms, end.rows, end.wake_ups
        );
        return Err(wrong(what));
    }
    if let Some(room) = room {
        writer.end(room)?;
    }
    Ok(load)
}

/// Blocks this thread until the future is done, inside or outside of a runtime.
pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    // Tokio makes a task wait after it was ready many times, until the task yields. This one never yields, so
    // it must not be limited.
    let future = tokio::task::unconstrained(future);
    let (mut future, mut context) = (pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
