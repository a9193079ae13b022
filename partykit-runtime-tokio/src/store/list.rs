use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use tracing::warn;
use xxhash_rust::xxh3::xxh3_128;

use super::{error::Fault, home::sync_dir};

/// Names the list that holds.
const CURRENT: &str = "current";

/// Makes the list of the tree's files durable.
pub(super) fn sync_names(path: &Path) -> io::Result<()> {
    sync_dir(&path.join("tables"))?;
    sync_dir(path)
}

/// Checks the list of the tree's files. The tree does not check it by itself, and a wrong list would hide
/// rows.
///
/// A list that is not as it was written gives way to the one before it, if that is still there. It is, when the process
/// failed while it replaced the list: the tree writes a list again under the same number after a failure, though
/// `current` may name the first one already. Nothing is lost by it: what the list before does not have is in the log.
/// If the log does not have it either, replaying finds that a file of it is missing, and the store does not open.
pub(super) fn check_list_of_files(path: &Path, must_exist: bool) -> Result<(), Fault> {
    let is_wrong =
        |what: &str| Err(Fault::damage(format!("the file `tree/{what}` is not as it was written")));
    let current = match fs::read(path.join(CURRENT)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if must_exist { is_wrong(CURRENT) } else { Ok(()) };
        }
        current => current.map_err(Fault::io("read"))?,
    };
    // The number of the list, its XXH3, and the kind of this checksum.
    let Some((version, rest)) = current.split_first_chunk() else { return is_wrong(CURRENT) };
    let Some((checksum, [0])) = rest.split_first_chunk() else { return is_wrong(CURRENT) };
    let version = u64::from_le_bytes(*version);
    let Some(list) = read_list(path, version)? else { return is_wrong(&name(version)) };
    if xxh3_128(&list) == u128::from_le_bytes(*checksum) {
        return Ok(());
    }
    let before = match version.checked_sub(1) {
        Some(before) => read_list(path, before)?.map(|list| (before, list)),
        None => None,
    };
    let Some((before, list)) = before else { return is_wrong(&name(version)) };
    warn!(
        "the list of files {} is not as it was written: going on with the one before, and the log",
        path.join(name(version)).display()
    );
    go_back(path, before, &list).map_err(Fault::io("written"))
}

/// Has `current` name this list.
fn go_back(path: &Path, version: u64, list: &[u8]) -> io::Result<()> {
    let current = [&version.to_le_bytes()[..], &xxh3_128(list).to_le_bytes(), &[0]].concat();
    let next = path.join("current.next");
    let mut file = File::create(&next)?;
    file.write_all(&current)?;
    file.sync_all()?;
    fs::rename(next, path.join(CURRENT))?;
    sync_dir(path)
}

fn name(version: u64) -> String {
    format!("v{version}")
}

/// `None` if it is not there.
fn read_list(path: &Path, version: u64) -> Result<Option<Vec<u8>>, Fault> {
    match fs::read(path.join(name(version))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        list => list.map(Some).map_err(Fault::io("read")),
    }
}
