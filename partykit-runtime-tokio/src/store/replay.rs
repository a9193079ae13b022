use std::{fs, ops::Range, path::Path};

use super::{
    error::Fault,
    home::Facts,
    log::{self, Head},
    record::{self, Change, Changes},
    sectors::{self, Piece, SECTOR},
};

/// How much of the log is in the tree's files: all commits up to `number`, which are all commits in the
/// log's files up to `file`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) number: u64,
    pub(super) file: u64,
}

/// Gives `apply` every commit of the log that is not in the tree's files, in order. Returns the last one.
///
/// The last record may lack sectors that were never written, because no one was told that it is stored.
/// Anything else that is not as it was written is an error. [`sectors`] tells the two apart.
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
    // `facts.number` was synced: a log that ends before it has lost a confirmed commit.
    if number < facts.number {
        let (found, known) = (number, facts.number);
        return Err(Fault::damage(format!(
            "its log ends with commit {found}, and commit {known} was stored"
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
    /// `number` is the number of the last record before this file. Returns the number of the last record in
    /// it.
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
        let used = used(self.bytes);
        let mut at = sectors::begin(log::HEAD, record::HEAD);
        while at < used {
            match self.record(at, number + 1, used, head.is_durable)? {
                Some((changes, end)) => {
                    self.apply(at, &changes, apply)?;
                    number += 1;
                    at = sectors::begin(end, record::HEAD);
                }
                // Only the newest file may end in the middle of a record: the others were synced before
                // the next one began.
                None if is_newest => return Ok(number),
                None => return Err(self.name.damage_at(at)),
            }
        }
        Ok(number)
    }

    /// The changes of the record that begins here, and where it ends. `None` if the record is unfinished.
    fn record(
        &self,
        at: usize,
        number: u64,
        used: usize,
        is_durable: bool,
    ) -> Result<Option<(Vec<u8>, usize)>, Fault> {
        let damaged = || self.name.damage_at(at);
        let head = self.bytes.get(at..at + record::HEAD).ok_or_else(damaged)?;
        if head.last() == Some(&0) {
            let is_torn = !is_durable || self.has_no_other(at, number, used);
            return if is_torn { Ok(None) } else { Err(damaged()) };
        }
        let head = record::read_head(head, self.seed).ok_or_else(damaged)?;
        let length = usize::try_from(head.length).ok();
        let length = length.filter(|length| *length <= self.bytes.len()).ok_or_else(damaged)?;
        let length = record::HEAD + length;
        let end = sectors::end(at, length);
        if head.number != number || end > self.bytes.len() {
            return Err(damaged());
        }
        let (mut bytes, mut is_finished) = (Vec::with_capacity(length), true);
        for piece in sectors::pieces(at, length) {
            match sectors::judge(self.bytes, piece.clone(), number, self.seed) {
                Piece::Whole => bytes.extend(&self.bytes[piece.start..piece.end - sectors::STAMP]),
                Piece::Unfinished => is_finished = false,
                Piece::Changed => return Err(self.name.damage_at(piece.start)),
            }
        }
        if is_finished {
            bytes.drain(..record::HEAD);
            return Ok(Some((bytes, end)));
        }
        // The next record is written only after this one is synced. So if bytes follow, this one was
        // whole, and has been damaged.
        if is_durable && used > end { Err(damaged()) } else { Ok(None) }
    }

    /// Whether all bytes behind an unfinished head can belong to the same record. If so, no record was
    /// written after it.
    fn has_no_other(&self, at: usize, number: u64, used: usize) -> bool {
        let is_zero = |range: Range<usize>| self.bytes[range].iter().all(|byte| *byte == 0);
        let next = (at / SECTOR + 1) * SECTOR;
        let is_whole = |piece: Range<usize>| {
            sectors::judge(self.bytes, piece, number, self.seed) == Piece::Whole
        };
        let may_be = |begin: usize| {
            let end = (begin + SECTOR).min(self.bytes.len());
            match used <= end {
                false => is_zero(begin..end) || is_whole(begin..end),
                // The last piece is whole, or it is cut short and has no mark at its end.
                true => self.bytes[used - 1] != sectors::MARK || is_whole(begin..used),
            }
        };
        let behind_head = (at + record::HEAD).min(used)..next.min(used).max(at);
        (behind_head.is_empty() || is_zero(behind_head)) && (next..used).step_by(SECTOR).all(may_be)
    }

    fn apply(
        &self,
        at: usize,
        changes: &[u8],
        apply: &mut impl FnMut(&mut dyn Iterator<Item = Change<'_>>),
    ) -> Result<(), Fault> {
        let mut are_whole = true;
        let mut changes = Changes(changes).map_while(|change| {
            are_whole &= change.is_ok();
            change.ok()
        });
        apply(&mut changes);
        drop(changes);
        if are_whole { Ok(()) } else { Err(self.name.damage_at(at)) }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::record::Record, *};

    const SEED: u64 = 77;
    const LENGTH: usize = 16 << 10;

    /// A file with records of these values, and where each record begins and ends in it.
    fn file(values: &[Vec<u8>], is_durable: bool) -> (Vec<u8>, Vec<Range<usize>>) {
        let head = Head { index: 1, first: 1, length: LENGTH as u64, is_durable };
        let mut bytes = head.print(SEED).to_vec();
        let mut places = Vec::new();
        let mut record = Record::default();
        for (n, value) in values.iter().enumerate() {
            record.clear();
            record.put(b"key", value);
            let at = bytes.len();
            bytes.extend(record.finish(n as u64 + 1, SEED, at as u64));
            places.push(sectors::begin(at, record::HEAD)..bytes.len());
        }
        assert!(bytes.len() <= LENGTH);
        bytes.resize(LENGTH, 0);
        (bytes, places)
    }

    /// The values that are found.
    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
        let mut found = Vec::new();
        let reader = Reader { name: Name { index: 1 }, bytes, seed: SEED };
        reader.read(0, true, &mut |changes: &mut dyn Iterator<Item = Change<'_>>| {
            found.extend(changes.map(|(_, value)| value.unwrap().to_vec()));
        })?;
        Ok(found)
    }

    /// Values with areas of zeros as long as some sectors.
    fn value() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            (0_usize..1600).prop_map(|length| vec![0; length]),
            prop::collection::vec(any::<u8>(), 0..700),
        ];
        prop::collection::vec(part, 1..4).prop_map(|parts| parts.concat())
    }

    #[test]
    fn each_flipped_bit_of_the_last_record_is_damage_although_it_has_sectors_of_zeros() {
        for value in [vec![0; 1700], vec![0; 3], [vec![1; 200], vec![0; 1100]].concat()] {
            let (bytes, places) = file(&[vec![5; 300], value], true);
            for bit in places[1].start * 8..places[1].end * 8 {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(matches!(read(&bytes), Err(Fault::Damage(_))), "bit {bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_of_what_was_acknowledged_is_damage(
            values in prop::collection::vec(value(), 1..4),
            is_durable in any::<bool>(),
            flips in prop::collection::vec(any::<prop::sample::Index>(), 24),
        ) {
            let (bytes, places) = file(&values, is_durable);
            prop_assert_eq!(&read(&bytes).unwrap(), &values);
            for (n, flip) in flips.iter().enumerate() {
                // Most of them in the last record.
                let place = if n % 3 == 0 { flip.get(&places) } else { places.last().unwrap() };
                let bit = place.start * 8 + flip.index(place.len() * 8);
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(matches!(read(&bytes), Err(Fault::Damage(_))), "bit {}", bit);
            }
        }

        #[test]
        fn any_sectors_of_a_last_record_that_was_not_synced_may_be_lost(
            values in prop::collection::vec(value(), 1..4),
            is_durable in any::<bool>(),
            lost in any::<u64>(),
            first in 0_usize..64,
            cut in any::<prop::sample::Index>(),
        ) {
            let (whole, places) = file(&values, is_durable);
            let last = places.last().unwrap().clone();
            let sectors: Vec<_> = (last.start / SECTOR..last.end.div_ceil(SECTOR)).collect();
            let mut bytes = whole.clone();
            // Any of them, and one in any case; the beginning of the first one is another record's.
            for (n, sector) in sectors.iter().enumerate() {
                if lost >> (n % 64) & 1 == 1 || n == first % sectors.len() {
                    let begin = last.start.max(sector * SECTOR);
                    bytes[begin..last.end.min((sector + 1) * SECTOR)].fill(0);
                }
            }
            let before = &values[..values.len() - 1];
            prop_assert_eq!(&read(&bytes).unwrap()[..], before);

            // Or written up to anywhere only.
            let mut bytes = whole;
            bytes[last.start + cut.index(last.len())..last.end].fill(0);
            prop_assert_eq!(&read(&bytes).unwrap()[..], before);
        }

        #[test]
        fn a_sector_that_is_lost_before_the_next_record_is_damage(
            values in prop::collection::vec(value(), 2..4),
            at in any::<prop::sample::Index>(),
        ) {
            let (mut bytes, places) = file(&values, true);
            let (lost, next) = (&places[places.len() - 2], places.last().unwrap());
            let sector = lost.start / SECTOR + at.index(lost.end.div_ceil(SECTOR) - lost.start / SECTOR);
            let begin = lost.start.max(sector * SECTOR);
            let end = lost.end.min((sector + 1) * SECTOR);
            prop_assume!(end <= next.start);
            bytes[begin..end].fill(0);
            prop_assert!(matches!(read(&bytes), Err(Fault::Damage(_))));
        }
    }
}
