use std::{fs, ops::Range, path::Path};

use super::{
    error::Fault,
    home::Facts,
    log::{self, Head},
    record::{self, Change, Changes},
};

/// How much of the log the tree's files hold: the commits up to a number, which is all that the files
/// of the log up to an index have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) number: u64,
    pub(super) file: u64,
}

/// What disks write whole, or not at all.
const SECTOR: usize = 512;

/// Gives `apply` every commit in the log that the tree's files lack, in order, and says up to where
/// commits reach.
///
/// The last record may be missing its end, or a part: whoever waited for it was never told that it was
/// stored. Anything else that is not as it was written is an error.
pub(super) fn replay(
    dir: &Path,
    facts: &Facts,
    mark: Mark,
    mut apply: impl FnMut(&mut dyn Iterator<Item = Change<'_>>),
) -> Result<Mark, Fault> {
    let newest = facts.newest.max(mark.file);
    let mut number = mark.number;
    for index in mark.file + 1..=newest {
        let name = Name { index };
        let path = log::path(dir, index);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(name.damage("missing"));
            }
            bytes => bytes.map_err(Fault::io("read"))?,
        };
        let reader = Reader { name, bytes: &bytes, seed: facts.seed(index) };
        number = reader.read(number, index == newest, &mut apply)?;
    }
    if number < facts.number {
        let (found, known) = (number, facts.number);
        return Err(Fault::damage(format!(
            "its commits end with number {found}, and number {known} was stored"
        )));
    }
    Ok(Mark { number, file: newest })
}

#[derive(Clone, Copy)]
struct Name {
    index: u64,
}

impl Name {
    fn damage(self, what: &str) -> Fault {
        Fault::damage(format!("the file `log/{:016}` is {what}", self.index))
    }

    fn damage_at(self, offset: usize) -> Fault {
        self.damage(&format!("not as it was written, from byte {offset} on"))
    }
}

struct Reader<'a> {
    name: Name,
    bytes: &'a [u8],
    seed: u64,
}

impl Reader<'_> {
    /// Takes the number of the last record before this file, and gives the one of its last.
    fn read(
        &self,
        mut number: u64,
        is_newest: bool,
        apply: &mut impl FnMut(&mut dyn Iterator<Item = Change<'_>>),
    ) -> Result<u64, Fault> {
        let head = Head::parse(self.bytes, self.seed).ok_or_else(|| self.name.damage_at(0))?;
        if head.index != self.name.index || head.first != number + 1 {
            return Err(self.name.damage("not the one that belongs here"));
        }
        if head.length != self.bytes.len() as u64 {
            let what = format!("{} bytes long instead of {}", self.bytes.len(), head.length);
            return Err(self.name.damage(&what));
        }
        let mut at = log::HEAD;
        let used = used(self.bytes);
        while at < used {
            match self.record(at, number + 1)? {
                Ok(changes) => {
                    let end = changes.end;
                    self.apply(changes, apply)?;
                    number += 1;
                    at = end + record::TAIL;
                }
                Err(extent) => {
                    let is_torn = is_newest && self.is_torn(extent, number + 1, head.is_durable);
                    return if is_torn { Ok(number) } else { Err(self.name.damage_at(at)) };
                }
            }
        }
        Ok(number)
    }

    /// Where the changes of the record are that begins here; or, inside, where it is broken.
    fn record(&self, at: usize, number: u64) -> Result<Result<Range<usize>, Range<usize>>, Fault> {
        let begin = at + record::HEAD;
        let Some(head) = self.bytes.get(at..begin).and_then(|h| record::read_head(h, self.seed))
        else {
            return Ok(Err(at..begin.min(self.bytes.len())));
        };
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        let end = begin.saturating_add(length);
        let behind = end.saturating_add(record::TAIL);
        if head.number != number || behind > self.bytes.len() {
            return Err(self.name.damage_at(at));
        }
        let is_whole =
            record::is_whole(&self.bytes[begin..end], &self.bytes[end..behind], self.seed);
        Ok(if is_whole { Ok(begin..end) } else { Err(at..behind) })
    }

    fn apply(
        &self,
        changes: Range<usize>,
        apply: &mut impl FnMut(&mut dyn Iterator<Item = Change<'_>>),
    ) -> Result<(), Fault> {
        let at = changes.start;
        let mut are_whole = true;
        let mut changes = Changes(&self.bytes[changes]).map_while(|change| {
            are_whole &= change.is_ok();
            change.ok()
        });
        apply(&mut changes);
        drop(changes);
        if are_whole { Ok(()) } else { Err(self.name.damage_at(at)) }
    }

    /// Whether what is wrong here is what a crash leaves when it comes before a record was synced: its
    /// end is missing, or one of its sectors. A record that is complete but wrong was changed later.
    fn is_torn(&self, extent: Range<usize>, number: u64, is_durable: bool) -> bool {
        let is_zero = |range: Range<usize>| self.bytes[range].iter().all(|byte| *byte == 0);
        let used = used(self.bytes);
        let lacks_end = used < extent.end;
        let mut sectors = (extent.start..extent.end).scan(extent.start, |at, _| {
            let begin = *at;
            *at = ((begin / SECTOR + 1) * SECTOR).min(self.bytes.len());
            (begin < extent.end).then_some(begin..*at)
        });
        let mut lacks_sector = || sectors.any(is_zero);
        // The next record is written when this one is synced; so if it is there, this one was.
        let has_next = || {
            let end = (used + record::HEAD).min(self.bytes.len());
            self.bytes[extent.start..end].windows(record::HEAD).any(|window| {
                record::read_head(window, self.seed).is_some_and(|head| head.number > number)
            })
        };
        (lacks_end || lacks_sector()) && !(is_durable && has_next())
    }
}

/// The length up to the last byte that is not zero.
fn used(bytes: &[u8]) -> usize {
    let chunk = [0; 4096];
    let is_used = |part: &[u8]| part != &chunk[..part.len()];
    let Some(last) = bytes.chunks(chunk.len()).rposition(is_used) else { return 0 };
    let begin = last * chunk.len();
    let part = &bytes[begin..bytes.len().min(begin + chunk.len())];
    begin + part.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}
