use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    sync::Arc,
};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

/// The length in bytes of the trailer of a file of the tree.
const TRAILER: u64 = 38;

/// The sections of a file of the tree: each has a name, where it begins, and its length.
#[derive(Debug)]
pub(super) struct Sections(Vec<(Bytes, u64, u64)>);

impl Sections {
    /// `None` if the file's table of contents is damaged.
    pub(super) fn read(file: &File) -> io::Result<Option<Self>> {
        let length = file.metadata()?.len();
        let Some(begin) = length.checked_sub(TRAILER) else { return Ok(None) };
        let trailer = read(file, begin, TRAILER)?;
        let mut trailer = Parts(trailer);
        let (magic, kind) = (trailer.take(4), trailer.take(2));
        if magic.as_deref() != Some(b"SFA!") || kind.as_deref() != Some(&[1, 0]) {
            return Ok(None);
        }
        let checksum = trailer
            .take(16)
            .map(|bytes| u128::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default()));
        let (at, size) = (trailer.u64(), trailer.u64());
        let (Some(checksum), Some(at), Some(size)) = (checksum, at, size) else { return Ok(None) };
        if at.checked_add(size).is_none_or(|end| end > begin) {
            return Ok(None);
        }
        let contents = read(file, at, size)?;
        let is_whole = xxh3_128(&contents) == checksum;
        Ok(if is_whole { Self::parse(contents) } else { None })
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<(u64, u64)> {
        self.0.iter().find(|section| section.0 == name).map(|(_, at, length)| (*at, *length))
    }

    fn parse(contents: Bytes) -> Option<Self> {
        let mut contents = Parts(contents);
        if contents.take(4)? != b"TOC!"[..] {
            return None;
        }
        let count = contents.u32()?;
        let section = |_| {
            let (at, length) = (contents.u64()?, contents.u64()?);
            let name = contents.u16()?.into();
            Some((contents.take(name)?, at, length))
        };
        (0..count).map(section).collect::<Option<_>>().map(Self)
    }
}

/// Reads `length` bytes of a file from `at` on.
pub(super) fn read(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let mut done = 0;
    while done < bytes.len() {
        match read_at(file, &mut bytes[done..], at + done as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes.into())
}

/// A reading position in a file. A file can have several at the same time.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    file: Arc<File>,
    at: u64,
}

impl Cursor {
    pub(super) fn new(file: Arc<File>) -> Self {
        Self { file, at: 0 }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl Read for Cursor {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = read_at(&self.file, bytes, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, offset) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::Current(offset) => (self.at, offset),
            SeekFrom::End(offset) => (self.file.metadata()?.len(), offset),
        };
        let at = base.checked_add_signed(offset).ok_or(io::ErrorKind::InvalidInput)?;
        self.at = at;
        Ok(at)
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, at)
}

#[cfg(windows)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, bytes, at)
}

/// Numbers and strings of bytes, one after another.
pub(super) struct Parts(pub(super) Bytes);

impl Parts {
    pub(super) fn take(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(*self.take(2)?.first_chunk()?))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.take(4)?.first_chunk()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(*self.take(8)?.first_chunk()?))
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        Some(u128::from_le_bytes(*self.take(16)?.first_chunk()?))
    }

    /// Seven bits in each byte, the lowest first; a byte below 128 is the last.
    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A string of bytes. A varint in front of it gives its length.
    pub(super) fn string(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }
}
