use std::{fs, io, path::Path};

use xxhash_rust::xxh3::xxh3_128;

use super::{error::Fault, home::sync_dir};

/// Makes the list of the tree's files durable.
pub(super) fn sync_names(path: &Path) -> io::Result<()> {
    sync_dir(&path.join("tables"))?;
    sync_dir(path)
}

/// Checks the list of the tree's files. The tree does not check it by itself, and a wrong list would hide
/// rows.
pub(super) fn check_list_of_files(path: &Path, must_exist: bool) -> Result<(), Fault> {
    let is_wrong =
        |what: &str| Err(Fault::damage(format!("the file `tree/{what}` is not as it was written")));
    let current = match fs::read(path.join("current")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if must_exist { is_wrong("current") } else { Ok(()) };
        }
        current => current.map_err(Fault::io("read"))?,
    };
    // The number of the list, its XXH3, and the kind of this checksum.
    let Some((version, rest)) = current.split_first_chunk() else { return is_wrong("current") };
    let Some((checksum, [0])) = rest.split_first_chunk() else { return is_wrong("current") };
    let name = format!("v{}", u64::from_le_bytes(*version));
    match fs::read(path.join(&name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => is_wrong(&name),
        Err(error) => Err(Fault::Io("read", error)),
        Ok(list) if xxh3_128(&list) == u128::from_le_bytes(*checksum) => Ok(()),
        Ok(_) => is_wrong(&name),
    }
}
