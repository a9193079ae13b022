//! What the shim writes down, one record for each change or sync. Compiled into both sides.

/// The environment variable with the directory that is watched.
pub(crate) const DIRECTORY: &str = "PARTYKIT_POWER_LOSS_DIR";

/// The environment variable with the file that records are appended to. It lies elsewhere.
pub(crate) const LOG: &str = "PARTYKIT_POWER_LOSS_LOG";

/// One change or sync. Files and directories go by their inode numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// A new, empty file.
    Create { directory: u64, name: &'a [u8], node: u64 },
    /// A new, empty directory.
    MakeDirectory { directory: u64, name: &'a [u8], node: u64 },
    /// One more name for a file.
    Link { directory: u64, name: &'a [u8], node: u64 },
    /// A name is gone.
    Remove { directory: u64, name: &'a [u8] },
    /// A name has changed, and maybe its directory; the new one may have been another file's.
    Rename { from: (u64, &'a [u8]), to: (u64, &'a [u8]) },
    /// Bytes of a file.
    Write { node: u64, offset: u64, data: &'a [u8] },
    /// The length of a file.
    Truncate { node: u64, length: u64 },
    /// A sync of a file or directory begins: what comes before this record is what it is for.
    SyncBegins { node: u64, ticket: u64 },
    /// That sync has succeeded.
    SyncEnds { ticket: u64 },
}

/// Bytes before the two variable parts: the length of all, the kind, three numbers, the length of the
/// first part.
const HEAD: usize = 4 + 1 + 3 * 8 + 4;

impl<'a> Record<'a> {
    /// Appends the record to `log`.
    pub(crate) fn encode(&self, log: &mut Vec<u8>) {
        let (kind, numbers, first, second): (u8, [u64; 3], &[u8], &[u8]) = match *self {
            Self::Create { directory, name, node } => (1, [directory, node, 0], name, &[]),
            Self::MakeDirectory { directory, name, node } => (2, [directory, node, 0], name, &[]),
            Self::Link { directory, name, node } => (3, [directory, node, 0], name, &[]),
            Self::Remove { directory, name } => (4, [directory, 0, 0], name, &[]),
            Self::Rename { from, to } => (5, [from.0, to.0, 0], from.1, to.1),
            Self::Write { node, offset, data } => (6, [node, offset, 0], data, &[]),
            Self::Truncate { node, length } => (7, [node, length, 0], &[], &[]),
            Self::SyncBegins { node, ticket } => (8, [node, ticket, 0], &[], &[]),
            Self::SyncEnds { ticket } => (9, [ticket, 0, 0], &[], &[]),
        };
        let length = HEAD + first.len() + second.len();
        log.extend((length as u32).to_le_bytes());
        log.push(kind);
        numbers.iter().for_each(|number| log.extend(number.to_le_bytes()));
        log.extend((first.len() as u32).to_le_bytes());
        log.extend(first);
        log.extend(second);
    }

    /// The first record of `log`, and the rest of it. `None` when the first one is not whole, which is
    /// how the log of a killed process may end.
    pub(crate) fn decode(log: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let length = u32::from_le_bytes(log.get(..4)?.try_into().ok()?) as usize;
        let (record, rest) = log.split_at_checked(length)?;
        let number = |at: usize| Some(u64::from_le_bytes(record.get(at..at + 8)?.try_into().ok()?));
        let (a, b) = (number(5)?, number(13)?);
        let first = u32::from_le_bytes(record.get(29..HEAD)?.try_into().ok()?) as usize;
        let (first, second) = record.get(HEAD..)?.split_at_checked(first)?;
        let record = match record[4] {
            1 => Self::Create { directory: a, name: first, node: b },
            2 => Self::MakeDirectory { directory: a, name: first, node: b },
            3 => Self::Link { directory: a, name: first, node: b },
            4 => Self::Remove { directory: a, name: first },
            5 => Self::Rename { from: (a, first), to: (b, second) },
            6 => Self::Write { node: a, offset: b, data: first },
            7 => Self::Truncate { node: a, length: b },
            8 => Self::SyncBegins { node: a, ticket: b },
            9 => Self::SyncEnds { ticket: a },
            _ => return None,
        };
        Some((record, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Record<'static>; 9] = [
        Record::Create { directory: 1, name: b"a", node: 2 },
        Record::MakeDirectory { directory: 1, name: b"b", node: u64::MAX },
        Record::Link { directory: 1, name: b"c", node: 3 },
        Record::Remove { directory: 1, name: b"c" },
        Record::Rename { from: (1, b"a"), to: (2, b"longer") },
        Record::Write { node: 2, offset: 1 << 40, data: b"data" },
        Record::Truncate { node: 2, length: 9 },
        Record::SyncBegins { node: 2, ticket: 7 },
        Record::SyncEnds { ticket: 7 },
    ];

    #[test]
    fn records_come_back_as_they_were_and_a_torn_one_ends_the_log() {
        let mut log = Vec::new();
        ALL.iter().for_each(|record| record.encode(&mut log));
        let mut rest = log.as_slice();
        for record in ALL {
            let (found, after) = Record::decode(rest).unwrap();
            assert_eq!(found, record);
            let whole = rest.len() - after.len();
            for cut in 0..whole {
                assert_eq!(Record::decode(&rest[..cut]), None, "{record:?} cut at {cut}");
            }
            rest = after;
        }
        assert_eq!(Record::decode(rest), None);
    }
}
