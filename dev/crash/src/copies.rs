//! A chore that a server does while it is killed: backups, one after the other. Each one that has its name
//! has to hold what was confirmed before it began, and no half of anything.

use std::{
    fs, io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use partykit::BoxError;
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    Violation,
    crowd::{Room, Stream, ask},
    history::{History, Track},
};

/// Between two backups.
const PAUSE: Duration = Duration::from_millis(20);

/// A backup that was asked for.
#[derive(Debug)]
pub(crate) struct Copy {
    /// The directory, beside that of the server.
    pub(crate) name: String,
    /// Whether somebody was told that it is done.
    pub(crate) is_done: bool,
    rooms: Vec<History>,
    streams: Vec<Track>,
}

/// The backups of one life.
#[derive(Debug)]
pub(crate) struct Copies {
    copies: Arc<Mutex<Vec<Copy>>>,
    client: JoinHandle<Option<String>>,
}

impl Copies {
    /// Asks for one backup after the other until the server is `killed`.
    pub(crate) fn start(
        address: SocketAddr,
        life: u32,
        rooms: &[Arc<Room>],
        streams: &[Arc<Stream>],
        killed: Arc<AtomicBool>,
    ) -> Self {
        let copies = Arc::new(Mutex::new(Vec::new()));
        let (rooms, streams, all) = (rooms.to_vec(), streams.to_vec(), copies.clone());
        let client = tokio::spawn(async move {
            for number in 0.. {
                let name = format!("copy-{life}-{number}");
                all.lock().unwrap_or_else(PoisonError::into_inner).push(Copy {
                    name: name.clone(),
                    is_done: false,
                    rooms: rooms.iter().map(|room| room.history().clone()).collect(),
                    streams: streams.iter().map(|stream| stream.track().clone()).collect(),
                });
                match ask(address, &format!("/backup/{name}"), String::new()).await {
                    Ok(_) => {
                        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                        all.iter_mut().for_each(|copy| copy.is_done |= copy.name == name);
                    }
                    Err(_) if killed.load(Ordering::SeqCst) => return None,
                    Err(error) => return Some(error.to_string()),
                }
                sleep(PAUSE).await;
            }
            None
        });
        Self { copies, client }
    }

    /// Those that were asked for, and what went wrong before the kill.
    pub(crate) async fn end(self) -> Result<(Vec<Copy>, Option<Violation>), BoxError> {
        let wrong = self.client.await?.map(|how| Violation::Unserved(format!("a backup: {how}")));
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((std::mem::take(&mut *copies), wrong))
    }
}

impl Copy {
    /// What each room of the copy has to hold, seen from now.
    pub(crate) fn expected<'a>(
        &'a self,
        rooms: &'a [Arc<Room>],
        streams: &'a [Arc<Stream>],
    ) -> (impl Iterator<Item = History>, impl Iterator<Item = Track>) {
        let rooms = self.rooms.iter().zip(rooms).map(|(then, room)| then.until(&room.history()));
        let streams = self.streams.iter().zip(streams);
        (rooms, streams.map(|(then, stream)| then.until(&stream.track())))
    }
}

/// Removes all copies, the unfinished ones too.
pub(crate) fn remove_all(disk: &Path, data: &str) -> io::Result<()> {
    for entry in fs::read_dir(disk)? {
        let entry = entry?;
        if entry.file_name() != data {
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
    }
    Ok(())
}
