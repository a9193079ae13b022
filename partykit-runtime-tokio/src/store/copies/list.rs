use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    archive::{self, Parts, Sections},
    merge::Table,
    table, view,
};
use crate::store::{error::Fault, replay::Mark};

pub(in crate::store) const CURRENT: &str = "current";
pub(super) const TABLES: &str = "tables";

/// The list of the tree's files: the file `current`, and the file `v` and a number that it names.
#[derive(Clone, Debug)]
pub(in crate::store) struct List {
    pub(super) number: u64,
    /// The content of these two files.
    pub(in crate::store) current: Bytes,
    pub(super) bytes: Bytes,
    /// The files with rows, in runs. A row in an earlier run is newer than one with the same key in a
    /// later run. The files of a run follow each other in the order of their keys.
    pub(super) runs: Vec<Vec<Listed>>,
}

/// A file with rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: u64,
    /// The XXH3 of the whole file.
    pub(super) checksum: u128,
    /// This is added to the numbers of its rows.
    pub(super) added: u64,
}

/// Why there is no list.
#[derive(Debug)]
pub(in crate::store) enum NoList {
    /// This file is missing or not as it was written.
    Wrong(String),
    Io(io::Error),
}

impl List {
    pub(in crate::store) fn read(tree: &Path) -> Result<Self, NoList> {
        let (number, current) = current(tree)?;
        let list = Self::of_number(tree, number)?;
        match list.current == current {
            true => Ok(list),
            false => Err(NoList::Wrong(format!("v{number}"))),
        }
    }

    /// The list before the one that `current` names. `None` if there is none that can be read.
    pub(in crate::store) fn before(tree: &Path) -> Result<Option<Self>, NoList> {
        let (number, _) = current(tree)?;
        let before = number.checked_sub(1).map(|before| Self::of_number(tree, before));
        match before.transpose() {
            Err(NoList::Wrong(_)) => Ok(None),
            before => before,
        }
    }

    /// Finds a list without the file `current`: one that names exactly the files in the directory, with the
    /// right checksums. `None` if there is no such list.
    pub(super) fn find(tree: &Path) -> io::Result<Option<Self>> {
        let mut numbers: Vec<u64> = fs::read_dir(tree)?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix('v')?.parse().ok())
            .collect();
        numbers.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
        let found = checksums(tree)?;
        for number in numbers {
            let Ok(list) = Self::of_number(tree, number) else { continue };
            let listed: HashMap<_, _> =
                list.runs.iter().flatten().map(|file| (file.id, file.checksum)).collect();
            if listed == found {
                return Ok(Some(list));
            }
        }
        Ok(None)
    }

    /// Makes a list of all files in the directory. The file that was made last comes first, but it may not
    /// have the newest rows.
    pub(super) fn of_all(tree: &Path) -> io::Result<Self> {
        let mut files: Vec<_> = checksums(tree)?.into_iter().collect();
        files.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        let of_one = |(id, checksum)| vec![Listed { id, checksum, added: 0 }];
        let runs = files.into_iter().map(of_one).collect();
        Ok(Self { number: 0, current: Bytes::new(), bytes: Bytes::new(), runs })
    }

    /// How much of the log these files have.
    pub(in crate::store) fn mark(&self, tree: &Path) -> Result<Mark, Fault> {
        let mut runs = Vec::new();
        for run in &self.runs {
            let mut tables = Vec::new();
            for file in run {
                let path = tree.join(TABLES).join(file.id.to_string());
                let table = Table::find(&path, file.id, file.added, false);
                let table = table.map_err(Fault::io("read"))?;
                tables.extend(table.can_have(&[super::layout::MARK]).then_some(table));
            }
            runs.push(tables);
        }
        view::mark(&runs)?.map_err(|finding| Fault::damage(finding.to_string()))
    }

    fn of_number(tree: &Path, number: u64) -> Result<Self, NoList> {
        let name = format!("v{number}");
        let path = tree.join(&name);
        let bytes = read_file(&path, &name)?;
        let runs = File::open(&path).and_then(|file| {
            let Some(sections) = Sections::read(&file)? else { return Ok(None) };
            let Some((at, length)) = sections.get(b"tables") else { return Ok(None) };
            Ok(parse(archive::read(&file, at, length)?))
        });
        match runs {
            Ok(Some(runs)) => {
                let checksum = xxh3_128(&bytes).to_le_bytes();
                let current = [&number.to_le_bytes()[..], &checksum, &[0]].concat().into();
                Ok(Self { number, current, bytes, runs })
            }
            Ok(None) => Err(NoList::Wrong(name)),
            Err(error) => Err(of_file(error, &name)),
        }
    }
}

/// The content of `current`, and the number in it: then come the XXH3 of the list, and the kind of this checksum.
fn current(tree: &Path) -> Result<(u64, Bytes), NoList> {
    let current = read_file(&tree.join(CURRENT), CURRENT)?;
    let mut parts = Parts(current.clone());
    let fields = (parts.u64(), parts.u128(), parts.u8(), parts.0.is_empty());
    let (Some(number), Some(_), Some(0), true) = fields else {
        return Err(NoList::Wrong(CURRENT.to_owned()));
    };
    Ok((number, current))
}

fn parse(bytes: Bytes) -> Option<Vec<Vec<Listed>>> {
    let mut parts = Parts(bytes);
    let mut runs = Vec::new();
    for _level in 0..parts.u8()? {
        for _run in 0..parts.u8()? {
            let mut run = Vec::new();
            for _file in 0..parts.u32()? {
                let (id, kind) = (parts.u64()?, parts.u8()?);
                let (checksum, added) = (parts.u128()?, parts.u64()?);
                run.push((kind == 0).then_some(Listed { id, checksum, added })?);
            }
            runs.push(run);
        }
    }
    parts.0.is_empty().then_some(runs)
}

/// The files with rows that are in the directory, with their checksums.
fn checksums(tree: &Path) -> io::Result<HashMap<u64, u128>> {
    let mut found = HashMap::new();
    let entries = match fs::read_dir(tree.join(TABLES)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            found.insert(id, table::checksum(&Arc::new(File::open(entry.path())?), |_| {})?.0);
        }
    }
    Ok(found)
}

fn read_file(path: &Path, name: &str) -> Result<Bytes, NoList> {
    fs::read(path).map(Bytes::from).map_err(|error| of_file(error, name))
}

fn of_file(error: io::Error, name: &str) -> NoList {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => NoList::Wrong(name.to_owned()),
        _ => NoList::Io(error),
    }
}
