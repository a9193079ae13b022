use std::{fs, path::Path, sync::Arc};

use partykit::{
    BoxError, Result,
    storage::{Backend, BackupOptions, DiskBackend},
};

use crate::desk::Question;

/// What the test asks beside rooms.
///
/// * `/wake-ups`: which rooms are to be woken when, without waking one: `[[milliseconds, room], ..]`.
/// * `/backup/name`: a backup in a directory of this name, beside that of the server; answered when it is
///   done.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) store: Arc<dyn Backend>,
    pub(super) disk: DiskBackend,
    /// Whether a backup is that of the question before.
    pub(super) is_stale: bool,
}

impl Desk {
    pub(super) async fn answer(self, asked: Question) -> Result<String> {
        match asked.path.strip_prefix("/backup/") {
            Some(name) => self.back_up(name).await,
            None if asked.path == "/wake-ups" => self.wake_ups().await,
            None => Err(asked.unknown()),
        }
    }

    async fn wake_ups(&self) -> Result<String, BoxError> {
        let rooms = self.store.wake_ups(None, 1_000).await?;
        let named = rooms.iter().map(|(at, room)| (at.as_millis(), room.room().to_string()));
        let named: Vec<_> = named.collect();
        Ok(serde_json::to_string(&named)?)
    }

    async fn back_up(&self, name: &str) -> Result<String, BoxError> {
        let to = self.disk.path().with_file_name(name);
        if self.is_stale {
            let former = to.with_file_name("former");
            if !former.exists() {
                self.back_up_to(&former).await?;
            }
            fs::rename(&former, to)?;
            self.back_up_to(&former).await?;
        } else {
            self.back_up_to(&to).await?;
        }
        Ok("done".into())
    }

    async fn back_up_to(&self, to: &Path) -> Result {
        // The check that follows a kill sees more than this one, and this would take most of the time.
        self.disk.backup(to, BackupOptions::new().verify(false)).await?;
        Ok(())
    }
}
