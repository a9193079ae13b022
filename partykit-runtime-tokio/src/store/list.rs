use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use tracing::warn;

use super::{
    copies::list::{CURRENT, List, NoList},
    error::Fault,
    home::{Home, sync_dir},
    log,
};

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
/// `current` may name the first one already. Nothing is lost by it if the log goes on where the list before ends. If it
/// does not, the list was damaged later, and nothing is changed: the tree would remove the files that only this list had.
pub(super) fn check_list_of_files(home: &Home) -> Result<(), Fault> {
    let (tree, facts) = (home.tree(), home.facts());
    if !facts.has_tree && !tree.join(CURRENT).try_exists().map_err(Fault::io("read"))? {
        return Ok(());
    }
    let fault = match List::read(&tree) {
        Ok(_) => return Ok(()),
        Err(fault) => Fault::from(fault),
    };
    // It fails with the same if `current` is the file that is wrong.
    let Some(before) = List::before(&tree)? else { return Err(fault) };
    // Without its files, it is not the list of this moment either.
    let Ok(mark) = before.mark(&tree) else { return Err(fault) };
    let goes_on = log::path(&home.log(), mark.file + 1).try_exists().map_err(Fault::io("read"))?;
    if mark.file < facts.newest && !goes_on {
        return Err(fault);
    }
    warn!("{}: going on with the list of files before it, and the log", fault.at(home.path()));
    go_back(&tree, &before).map_err(Fault::io("written"))
}

/// Has `current` name this list.
fn go_back(path: &Path, list: &List) -> io::Result<()> {
    let next = path.join("current.next");
    let mut file = File::create(&next)?;
    file.write_all(&list.current)?;
    file.sync_all()?;
    fs::rename(next, path.join(CURRENT))?;
    sync_dir(path)
}

impl From<NoList> for Fault {
    fn from(none: NoList) -> Self {
        match none {
            NoList::Io(error) => Self::Io("read", error),
            NoList::Wrong(name) => {
                Self::damage(format!("the file `tree/{name}` is not as it was written"))
            }
        }
    }
}
