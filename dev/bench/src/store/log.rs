use std::{fs::File, io::Write, path::Path};

use partykit::Result;

use super::{Group, key, value};

/// A file that only grows, without any order or way to read: the limit. The file has its length from
/// the beginning, so that a sync writes data alone.
pub(crate) struct AppendOnlyLog(Group<(usize, u64)>);

const LENGTH: u64 = 1 << 30;

impl AppendOnlyLog {
    pub(crate) fn create(directory: &Path) -> Result<Self> {
        let mut file = File::create(directory.join("log"))?;
        file.set_len(LENGTH)?;
        file.sync_all()?;
        let mut buffer = Vec::new();
        Ok(Self(Group::start(move |commits| {
            buffer.clear();
            for (room, round) in commits {
                buffer.extend(key(*room));
                buffer.extend(value(*room, *round));
            }
            file.write_all(&buffer)?;
            Ok(file.sync_data()?)
        })))
    }

    pub(crate) async fn commit(&self, room: usize, round: u64) -> Result<()> {
        self.0.commit((room, round)).await
    }
}
