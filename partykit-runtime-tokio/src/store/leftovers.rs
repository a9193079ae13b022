use std::{collections::BTreeSet, fs, io, path::Path};

use lsm_tree::{AbstractTree, AnyTree};

/// The numbers of the files in the tree's directory.
pub(super) fn tables(path: &Path) -> io::Result<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(path.join("tables"))? {
        found.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(found)
}

/// Removes the files of a merge that found no space: those that are neither in `before` nor in the list of
/// files. Returns `false`, and removes nothing, if the list on disk is not the one in memory: then the files
/// may be needed. No other thread may make files meanwhile.
pub(super) fn remove(path: &Path, before: &BTreeSet<u64>, tree: &AnyTree) -> io::Result<bool> {
    let version = tree.current_version();
    let on_disk = fs::read(path.join("current"))?;
    if on_disk.first_chunk().map(|id| u64::from_le_bytes(*id)) != Some(version.id()) {
        return Ok(false);
    }
    let needed: BTreeSet<u64> = version.iter_tables().map(|table| table.id()).collect();
    for table in tables(path)?.difference(before) {
        if !needed.contains(table) {
            fs::remove_file(path.join("tables").join(table.to_string()))?;
        }
    }
    Ok(true)
}
