//! Reads one file of the tree from its beginning to its end, without the tree. The guide's page "The format
//! on disk" describes the file.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    sync::Arc,
};

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::archive::{self, Cursor, Parts, Sections};

/// The length of the head of a block in bytes.
const BLOCK_HEAD: usize = 33;
/// The length of the tail of a block's content in bytes.
const BLOCK_TAIL: usize = 31;
const MAGIC: [u8; 4] = *b"LSM\x03";

const DATA: u8 = 0;
const INDEX: u8 = 1;
const META: u8 = 3;

/// This byte follows the last row of a block.
const END_OF_ROWS: u8 = 255;

/// How many bytes are read at a time.
const PART: usize = 1 << 18;

/// One version of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) key: Bytes,
    /// `None` if it was removed.
    pub(super) value: Option<Bytes>,
    pub(super) number: u64,
}

/// A damaged part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// The position in the file in bytes.
    pub(super) at: u64,
    /// The last key of the part. `None` if it is not known.
    pub(super) last: Option<Bytes>,
}

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Next {
    /// The rows of a block.
    Rows(Vec<Version>),
    /// A block that cannot be read.
    Broken(Broken),
    /// The rows end here.
    End,
}

/// Reads the blocks with rows.
#[derive(Debug)]
pub(super) struct Blocks {
    file: BufReader<Cursor>,
    at: u64,
    length: u64,
    /// This is added to the numbers of all rows.
    added: u64,
    is_over: bool,
}

impl Blocks {
    pub(super) fn new(file: &Arc<File>, added: u64) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let file = BufReader::with_capacity(PART, Cursor::new(file.clone()));
        Ok(Self { file, at: 0, length, added, is_over: false })
    }

    /// How many bytes were read or skipped.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    pub(super) fn next(&mut self) -> io::Result<Next> {
        if self.is_over {
            return Ok(Next::End);
        }
        let at = self.at;
        match self.block()? {
            Some((DATA, content)) => match rows(&content, self.added) {
                Some(rows) => Ok(Next::Rows(rows)),
                None => self.skip(at),
            },
            Some(_) => {
                self.is_over = true;
                Ok(Next::End)
            }
            None => self.skip(at),
        }
    }

    /// Goes to the first block that can have keys from `start` on.
    pub(super) fn skip_to(&mut self, start: &[u8]) -> io::Result<()> {
        if start.is_empty() {
            return Ok(());
        }
        let index = index(self.file.get_ref().file())?;
        let first = index.iter().flatten().find(|block| &block.last[..] >= start);
        self.at = first.map_or(0, |block| block.at);
        self.file.seek(SeekFrom::Start(self.at))?;
        Ok(())
    }

    /// The kind and the content of the block that begins here. `None` if the block is damaged.
    fn block(&mut self) -> io::Result<Option<(u8, Bytes)>> {
        let mut head = [0; BLOCK_HEAD];
        if self.length - self.at < BLOCK_HEAD as u64 {
            return Ok(None);
        }
        self.file.read_exact(&mut head)?;
        let Some(head) = Head::parse(&head) else { return Ok(None) };
        let end = self.at + BLOCK_HEAD as u64 + u64::from(head.length);
        if end > self.length {
            return Ok(None);
        }
        let mut content = vec![0; head.length as usize];
        self.file.read_exact(&mut content)?;
        self.at = end;
        Ok(head.is_of(&content).then(|| (head.kind, content.into())))
    }

    /// Goes to the block behind a damaged one. The file's index tells where it is. A search for the beginning
    /// of a block would not be safe: a client can put bytes that look like one into a value.
    fn skip(&mut self, at: u64) -> io::Result<Next> {
        let index = index(self.file.get_ref().file())?;
        let mut behind = index.iter().flatten().skip_while(|block| block.at < at);
        match (behind.next(), behind.next()) {
            (Some(broken), next) if broken.at == at => {
                self.is_over = next.is_none();
                self.at = next.map_or(self.length, |next| next.at);
                self.file.seek(SeekFrom::Start(self.at))?;
                Ok(Next::Broken(Broken { at, last: Some(broken.last.clone()) }))
            }
            _ => {
                self.is_over = true;
                self.at = self.length;
                Ok(Next::Broken(Broken { at, last: None }))
            }
        }
    }
}

/// The smallest and the greatest key of a file, as the file says. `None` if that part is damaged.
pub(super) fn bounds(file: &File) -> io::Result<Option<(Bytes, Bytes)>> {
    let Some((at, length)) = Sections::read(file)?.and_then(|all| all.get(b"meta")) else {
        return Ok(None);
    };
    let Some((META, content)) = whole_block(&archive::read(file, at, length)?) else {
        return Ok(None);
    };
    let Some(facts) = rows(&content, 0) else { return Ok(None) };
    let fact = |name: &[u8]| facts.iter().find(|fact| fact.key == name)?.value.clone();
    Ok(fact(b"key#min").zip(fact(b"key#max")))
}

/// The checksum of a whole file, and its length.
pub(super) fn checksum(file: &Arc<File>, mut progress: impl FnMut(u64)) -> io::Result<(u128, u64)> {
    let mut file = Cursor::new(file.clone());
    let (mut hasher, mut part, mut length) = (Xxh3Default::new(), vec![0; PART], 0);
    loop {
        match file.read(&mut part) {
            Ok(0) => return Ok((hasher.digest128(), length)),
            Ok(read) => {
                hasher.update(&part[..read]);
                length += read as u64;
                progress(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Where a block with rows begins, and its last key.
struct Place {
    at: u64,
    last: Bytes,
}

/// All blocks with rows. `None` if the part that lists them is damaged.
fn index(file: &File) -> io::Result<Option<Vec<Place>>> {
    let Some(sections) = Sections::read(file)? else { return Ok(None) };
    let Some((at, length)) = sections.get(b"index").or_else(|| sections.get(b"tli")) else {
        return Ok(None);
    };
    let mut bytes = archive::read(file, at, length)?;
    let mut places = Vec::new();
    while !bytes.is_empty() {
        let Some((INDEX, content)) = whole_block(&bytes) else { return Ok(None) };
        let Some(more) = handles(&content) else { return Ok(None) };
        places.extend(more);
        bytes = bytes.slice(BLOCK_HEAD + content.len()..);
    }
    Ok(Some(places))
}

/// The block that the bytes begin with.
fn whole_block(bytes: &Bytes) -> Option<(u8, Bytes)> {
    let head = Head::parse(bytes)?;
    let end = BLOCK_HEAD + head.length as usize;
    let content = (end <= bytes.len()).then(|| bytes.slice(BLOCK_HEAD..end))?;
    head.is_of(&content).then_some((head.kind, content))
}

struct Head {
    kind: u8,
    checksum: u128,
    length: u32,
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BLOCK_HEAD] = bytes.first_chunk()?;
        let (fields, checksum) = bytes.split_at(BLOCK_HEAD - 4);
        if fields[..4] != MAGIC || (xxh3_128(fields) as u32).to_le_bytes() != *checksum {
            return None;
        }
        Some(Self {
            kind: fields[4],
            checksum: u128::from_le_bytes(*fields[5..].first_chunk()?),
            length: u32::from_le_bytes(*fields[21..].first_chunk()?),
        })
    }

    fn is_of(&self, content: &[u8]) -> bool {
        xxh3_128(content) == self.checksum
    }
}

/// Reads the tail of a block's content: after how many rows a complete key comes, and how many rows there
/// are.
fn tail(content: &Bytes) -> Option<(usize, usize)> {
    let tail = content.get(content.len().checked_sub(BLOCK_TAIL)?..)?;
    let count = u32::from_le_bytes(*tail.last_chunk()?) as usize;
    Some((usize::from(*tail.first()?).max(1), count))
}

/// The rows of a block whose checksum is right. `None` if its content has another form.
fn rows(content: &Bytes, added: u64) -> Option<Vec<Version>> {
    let (interval, count) = tail(content)?;
    let mut parts = Parts(content.clone());
    let (mut rows, mut base) = (Vec::with_capacity(count.min(content.len())), Bytes::new());
    loop {
        let kind = parts.u8()?;
        if kind == END_OF_ROWS {
            return (rows.len() == count).then_some(rows);
        }
        let number = parts.varint()?.checked_add(added)?;
        let key = if rows.len().is_multiple_of(interval) {
            base = parts.string()?;
            base.clone()
        } else {
            let shared = usize::try_from(parts.varint()?).ok()?;
            let rest = parts.string()?;
            Bytes::from([base.get(..shared)?, &rest].concat())
        };
        let value = match kind {
            0 => Some(parts.string()?),
            1 | 2 => None,
            _ => return None,
        };
        rows.push(Version { key, value, number });
    }
}

/// The places that a block of the index lists.
fn handles(content: &Bytes) -> Option<Vec<Place>> {
    let (_, count) = tail(content)?;
    let mut parts = Parts(content.clone());
    let mut places = Vec::with_capacity(count.min(content.len()));
    loop {
        if parts.u8()? == END_OF_ROWS {
            return (places.len() == count).then_some(places);
        }
        let at = parts.varint()?;
        let (_size, _number) = (parts.varint()?, parts.varint()?);
        places.push(Place { at, last: parts.string()? });
    }
}
