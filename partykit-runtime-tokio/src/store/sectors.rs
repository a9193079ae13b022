//! The layout of a record in a file of the log. It tells for each sector whether it was written, never
//! written, or changed later.
//!
//! A record is cut where sectors end. Each piece ends with a stamp of 8 bytes: a checksum of 7 bytes,
//! and [`MARK`]. Bytes that were never written are zero, so a piece whose last byte is zero was not written
//! to its end, and its record was never confirmed. A piece that ends with any other byte was written, and its
//! checksum has to be right. One flipped bit never makes a zero of [`MARK`].

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A disk writes this many bytes completely or not at all.
pub(super) const SECTOR: usize = 512;

/// The bytes at the end of each piece.
pub(super) const STAMP: usize = 8;

/// The last byte of each piece and of a record's head: several bits, so that no single flip clears it.
pub(super) const MARK: u8 = 0xDD;

/// The state of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// As it was written.
    Whole,
    /// Never written, or not to its end.
    Unfinished,
    /// Written, and not the same any more.
    Changed,
}

/// The first byte of a record that may begin at `at`. Its first `head` bytes lie in one sector.
pub(super) fn begin(at: usize, head: usize) -> usize {
    let left = SECTOR - at % SECTOR;
    if left < head + STAMP { at + left } else { at }
}

/// The pieces of a record of `length` bytes that begins at `at`, stamps included.
pub(super) fn pieces(at: usize, length: usize) -> impl Iterator<Item = Range<usize>> {
    let mut next = (at, length);
    std::iter::from_fn(move || {
        let (at, left) = next;
        if left == 0 {
            return None;
        }
        let room = SECTOR - at % SECTOR - STAMP;
        let taken = left.min(room);
        next = (at + taken + STAMP, left - taken);
        Some(at..next.0)
    })
}

/// The first byte behind such a record.
pub(super) fn end(at: usize, length: usize) -> usize {
    let room = SECTOR - at % SECTOR - STAMP;
    let Some(rest) = length.checked_sub(room).filter(|rest| *rest > 0) else {
        return at.saturating_add(length).saturating_add(STAMP);
    };
    let sectors = (rest - 1) / (SECTOR - STAMP);
    let last = rest - sectors * (SECTOR - STAMP) + STAMP;
    sectors.saturating_mul(SECTOR).saturating_add(at + room + STAMP + last)
}

/// Appends a record to `out` as it lies in the file from `at` on.
pub(super) fn write(record: &[u8], at: usize, number: u64, seed: u64, out: &mut Vec<u8>) {
    let mut rest = record;
    for piece in pieces(at, record.len()) {
        let (taken, left) = rest.split_at(piece.len() - STAMP);
        out.extend(taken);
        out.extend(stamp(taken, piece.start, number, seed));
        rest = left;
    }
}

/// Judges one piece of the record with this number.
pub(super) fn judge(file: &[u8], piece: Range<usize>, number: u64, seed: u64) -> Piece {
    let begin = piece.start;
    match file.get(piece).and_then(|piece| piece.split_last_chunk::<STAMP>()) {
        None => Piece::Unfinished,
        Some((_, [.., 0])) => Piece::Unfinished,
        Some((data, found)) if *found == stamp(data, begin, number, seed) => Piece::Whole,
        Some(_) => Piece::Changed,
    }
}

/// Makes a stamp: seven bytes of a checksum, and the mark.
pub(super) fn seal(checksum: u64) -> [u8; STAMP] {
    let mut stamp = checksum.to_le_bytes();
    stamp[STAMP - 1] = MARK;
    stamp
}

fn stamp(data: &[u8], at: usize, number: u64, seed: u64) -> [u8; STAMP] {
    let of_record = seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    seal(xxh3_64_with_seed(data, of_record.wrapping_add(at as u64)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_lie_in_one_sector_each_and_hold_all(
            at in 0_usize..2048,
            length in 24_usize..5000,
        ) {
            let at = begin(at, 24);
            prop_assert!(at / SECTOR == (at + 24 + STAMP - 1) / SECTOR, "the head is in one sector");
            let mut next = at;
            let mut held = 0;
            for piece in pieces(at, length) {
                prop_assert_eq!(piece.start, next);
                prop_assert!(piece.len() > STAMP);
                prop_assert_eq!(piece.start / SECTOR, (piece.end - 1) / SECTOR);
                next = piece.end;
                held += piece.len() - STAMP;
            }
            prop_assert_eq!((held, next), (length, end(at, length)));
        }
    }
}
