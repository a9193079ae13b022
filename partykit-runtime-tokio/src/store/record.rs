//! One group of commits in the log: a head, and the changes.
//!
//! ```text
//! head     24 bytes   length of the changes (u64), number (u64), checksum of these two (7 bytes), MARK
//! changes             each: 0 = removed or 1 = put (u8), length of the key (u16),
//!                     length of the value (u32), the key, the value
//! ```
//!
//! Numbers are little-endian. Checksums are XXH3 with a seed for each file, so the remains of another file
//! are not taken for a record. In the file a record is cut into [`sectors`], each with a stamp.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::sectors;

pub(super) const HEAD: usize = 24;

const REMOVED: u8 = 0;
const PUT: u8 = 1;

/// A record that is being made. The same value makes all records, and keeps its buffer.
#[derive(Debug, Default)]
pub(super) struct Record {
    bytes: Vec<u8>,
    /// The record with its stamps, as it is in the file.
    stamped: Vec<u8>,
}

/// One row that changes: its key, and its value unless it is removed.
pub(super) type Change<'a> = (&'a [u8], Option<&'a [u8]>);

/// How many bytes of the buffer are kept from one record to the next.
const KEPT: usize = 1 << 20;

impl Record {
    /// Removes all changes.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.bytes.resize(HEAD, 0);
        self.stamped.clear();
        self.stamped.shrink_to(KEPT);
    }

    /// The caller has checked that the key is shorter than 64 KiB and the value shorter than 4 GiB.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.push(PUT, key, value);
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        self.push(REMOVED, key, &[]);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() <= HEAD
    }

    /// A point to go [back](Record::back_to) to.
    pub(super) fn point(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn back_to(&mut self, point: usize) {
        self.bytes.truncate(point);
    }

    /// Where the record ends in a file of the log whose last one ends at `at`.
    pub(super) fn end(&self, at: u64) -> u64 {
        let begin = sectors::begin(at as usize, HEAD);
        sectors::end(begin, self.bytes.len()) as u64
    }

    /// The bytes to write to a file of the log whose last record ends at `at`.
    pub(super) fn finish(&mut self, number: u64, seed: u64, at: u64) -> &[u8] {
        let length = (self.bytes.len() - HEAD) as u64;
        self.bytes[..8].copy_from_slice(&length.to_le_bytes());
        self.bytes[8..16].copy_from_slice(&number.to_le_bytes());
        let of_head = sectors::seal(xxh3_64_with_seed(&self.bytes[..16], seed));
        self.bytes[16..HEAD].copy_from_slice(&of_head);
        let at = at as usize;
        let begin = sectors::begin(at, HEAD);
        self.stamped.clear();
        self.stamped.resize(begin - at, 0);
        sectors::write(&self.bytes, begin, number, seed, &mut self.stamped);
        &self.stamped
    }

    pub(super) fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        Changes(&self.bytes[HEAD..]).map_while(Result::ok)
    }

    fn push(&mut self, kind: u8, key: &[u8], value: &[u8]) {
        self.bytes.push(kind);
        self.bytes.extend((key.len() as u16).to_le_bytes());
        self.bytes.extend((value.len() as u32).to_le_bytes());
        self.bytes.extend(key);
        self.bytes.extend(value);
    }
}

/// The head of a record.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) length: u64,
    pub(super) number: u64,
}

/// Reads a head. `None` if its checksum is wrong.
pub(super) fn read_head(bytes: &[u8], seed: u64) -> Option<Head> {
    let (fields, rest) = bytes.split_at_checked(16)?;
    let length = u64::from_le_bytes(*fields.first_chunk()?);
    let number = u64::from_le_bytes(*fields.last_chunk()?);
    let is_right = rest == sectors::seal(xxh3_64_with_seed(fields, seed));
    is_right.then_some(Head { length, number })
}

/// The changes of a record that was read. An item is `Err` if it cannot be read.
#[derive(Debug)]
pub(super) struct Changes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Changes<'a> {
    type Item = Result<Change<'a>, ()>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0;
        if rest.is_empty() {
            return None;
        }
        let change = read_change(rest);
        self.0 = change.map_or(&[], |(_, rest)| rest);
        Some(change.map(|(change, _)| change).ok_or(()))
    }
}

fn read_change(bytes: &[u8]) -> Option<(Change<'_>, &[u8])> {
    let ([kind, k0, k1, v0, v1, v2, v3], rest) = bytes.split_first_chunk::<7>()?;
    let (key, rest) = rest.split_at_checked(u16::from_le_bytes([*k0, *k1]).into())?;
    let length = u32::from_le_bytes([*v0, *v1, *v2, *v3]) as usize;
    let (value, rest) = rest.split_at_checked(length)?;
    match *kind {
        PUT => Some(((key, Some(value)), rest)),
        REMOVED if value.is_empty() => Some(((key, None), rest)),
        _ => None,
    }
}
