//! Checks an update before it is decoded.
//!
//! `yrs` reserves memory for the number of items that an update announces, and recurses for each nested
//! array. So a few bytes could use hundreds of megabytes, and a message of a megabyte could use up the stack,
//! which ends the process. An update that passes here has no count that its bytes cannot hold, and nothing is
//! nested deeper than [`DEPTH`]. It names each client once, and no clock is out of range: what yrs makes of other
//! updates depends on how it was compiled. And it has nothing that yrs reads and Yjs does not, or otherwise: Yjs fails
//! at such an update, so no browser could open the document any more.

use std::ops::Range;

use yrs::{
    encoding::{
        read::{Cursor, Error, Read},
        write::Write,
    },
    merge_updates_v1,
    updates::decoder::Decode,
};

use crate::subdocs;

/// How deep values may be nested in one another: as deep as serde_json reads.
pub(crate) const DEPTH: u32 = 128;

/// JavaScript holds integers of 53 bits. lib0 fails at others.
pub(crate) const MAX_INTEGER: u64 = (1 << 53) - 1;

/// The kind of content that is a nested type.
pub(crate) const TYPE: u8 = 7;

/// What an object among values begins with.
const OBJECT: u8 = 118;

/// An update in Yjs's first format that is safe to decode. It is complete, and no bytes follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Update<'a> {
    pub(crate) bytes: &'a [u8],
    /// How many nested types it makes.
    pub(crate) types: u32,
}

impl<'a> Update<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        let mut scan = Scan::new(bytes);
        scan.update().ok().filter(|_| !scan.cursor.has_content())?;
        let is_ours = |content: &Content| matches!(content.special, Special::Standing(_));
        let is_a_clients = !scan.contents.iter().any(is_ours);
        is_a_clients.then_some(Self { bytes, types: scan.types })
    }

    /// One that yrs has written, or that is made for it.
    pub(crate) fn inner(bytes: &'a [u8]) -> Option<Self> {
        let mut scan = Scan::new(bytes);
        scan.update().ok().filter(|_| !scan.cursor.has_content())?;
        Some(Self { bytes, types: scan.types })
    }

    /// Splits an update that would leave gaps: into what leaves none, which has all deletions, and the rest. `known`
    /// tells up to which clock all of a client is known. `None` if the update leaves no gap.
    pub(crate) fn split(self, known: impl Fn(u64) -> u32) -> Option<(Vec<u8>, Vec<Early>)> {
        let (clients, deleted) = clients(self.bytes)?;
        let cuts: Vec<usize> = clients.iter().map(|client| client.cut(&known)).collect();
        let is_whole = clients.iter().zip(&cuts).all(|(client, cut)| *cut == client.blocks.len());
        if is_whole {
            return None;
        }
        let mut ready = Vec::new();
        ready.write_var(cuts.iter().filter(|cut| **cut > 0).count() as u32);
        let mut early = Vec::new();
        for (client, cut) in clients.iter().zip(cuts) {
            if cut > 0 {
                client.write(self.bytes, 0..cut, &mut ready);
            }
            if let Some(first) = client.blocks.get(cut) {
                let mut section = Vec::new();
                client.write(self.bytes, cut..client.blocks.len(), &mut section);
                early.push(Early { client: client.id, clock: first.clock, section });
            }
        }
        ready.extend_from_slice(&self.bytes[deleted..]);
        Some((ready, early))
    }

    /// A client and a clock for each nested type that it makes.
    pub(crate) fn type_ids(self) -> Vec<(u64, u32)> {
        let clients = (self.types > 0).then(|| clients(self.bytes)).flatten();
        let clients = clients.map(|(clients, _)| clients).unwrap_or_default();
        let is_type = |block: &&Block| self.bytes[block.from] & 0b1111 == TYPE;
        let of = |client: &Client| {
            let types = client.blocks.iter().filter(is_type);
            types.map(|block| (client.id, block.clock)).collect::<Vec<_>>()
        };
        clients.iter().flat_map(of).collect()
    }

    /// Whether it changes nothing.
    pub(crate) fn is_empty(self) -> bool {
        self.bytes == [0, 0]
    }

    /// `None` if a part of it is not valid, such as a text.
    pub(crate) fn decode(self) -> Option<yrs::Update> {
        yrs::Update::decode_v1(self.bytes).ok()
    }
}

/// What an update has of one client, from behind a gap on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Early {
    pub(crate) client: u64,
    /// Where it begins.
    pub(crate) clock: u32,
    /// As it stands in an update.
    section: Vec<u8>,
}

impl Early {
    /// An update of these. Each is of another client.
    pub(crate) fn update<'a>(all: impl ExactSizeIterator<Item = &'a Self>) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.write_var(all.len());
        all.for_each(|early| bytes.extend_from_slice(&early.section));
        bytes.push(0);
        bytes
    }

    /// Both of one client in one. `None` if yrs cannot read what it makes of them.
    pub(crate) fn join(&self, other: &Self) -> Option<Self> {
        let bytes = [self, other].map(|early| Self::update([early].into_iter()));
        let bytes = merge_updates_v1(bytes).ok()?;
        let (_, mut early) = Update::inner(&bytes)?.split(|_| 0)?;
        early.pop().filter(|_| early.is_empty())
    }
}

/// The clients of an update, and where its deletions begin in the bytes.
pub(crate) fn clients(update: &[u8]) -> Option<(Vec<Client>, usize)> {
    Scan::new(update).update().ok()
}

/// What an update has of a client.
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) blocks: Vec<Block>,
    /// Where its blocks end in the bytes.
    end: usize,
}

pub(crate) struct Block {
    /// Where it begins in the bytes.
    pub(crate) from: usize,
    pub(crate) clock: u32,
    /// More than 0.
    pub(crate) length: u32,
    pub(crate) is_gap: bool,
}

impl Client {
    /// How many of its blocks leave no gap.
    fn cut(&self, known: impl Fn(u64) -> u32) -> usize {
        let mut known = known(self.id);
        let cut = self.blocks.iter().position(|block| {
            if block.is_gap {
                return false;
            }
            let is_early = block.clock > known;
            known = known.max(block.clock + block.length);
            is_early
        });
        cut.unwrap_or(self.blocks.len())
    }

    /// Writes some of its blocks as a client of an update.
    fn write(&self, bytes: &[u8], blocks: Range<usize>, to: &mut Vec<u8>) {
        to.write_var(blocks.len() as u32);
        to.write_var(self.id);
        to.write_var(self.blocks[blocks.start].clock);
        to.extend_from_slice(&bytes[self.range(blocks)]);
    }

    /// Where some of its blocks stand in the bytes.
    pub(crate) fn range(&self, blocks: Range<usize>) -> Range<usize> {
        let end = self.blocks.get(blocks.end).map_or(self.end, |block| block.from);
        self.blocks[blocks.start].from..end
    }
}

/// A content that [`subdocs`](crate::subdocs) has to do with.
pub(crate) struct Content {
    /// Where the byte is that says its kind.
    pub(crate) info: usize,
    pub(crate) range: Range<usize>,
    pub(crate) special: Special,
}

pub(crate) enum Special {
    Document,
    /// What stands for a document.
    Standing(String),
}

/// The special contents of an update, in their order.
pub(crate) fn contents(update: &[u8]) -> Vec<Content> {
    let mut scan = Scan::new(update);
    match scan.update() {
        Ok(_) => scan.contents,
        Err(_) => Vec::new(),
    }
}

/// A state vector that is safe to decode.
pub(crate) fn is_state_vector(bytes: &[u8]) -> bool {
    let mut scan = Scan::new(bytes);
    let done = scan.count(2).and_then(|clients| (0..clients).try_for_each(|_| scan.id().map(drop)));
    done.is_ok() && !scan.cursor.has_content()
}

type Scanned<T = ()> = Result<T, Error>;

struct Scan<'a> {
    cursor: Cursor<'a>,
    types: u32,
    contents: Vec<Content>,
}

impl<'a> Scan<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { cursor: Cursor::new(bytes), types: 0, contents: Vec::new() }
    }

    /// The clients, and where the deletions begin in the bytes.
    fn update(&mut self) -> Scanned<(Vec<Client>, usize)> {
        let mut clients = Vec::new();
        for _ in 0..self.count(3)? {
            let count = self.count(2)?;
            let (id, mut clock) = self.id()?;
            let mut blocks = Vec::with_capacity(count);
            for _ in 0..count {
                let from = self.cursor.next;
                let (length, is_gap) = self.block()?;
                if length == 0 {
                    return Err(Error::UnexpectedValue);
                }
                blocks.push(Block { from, clock, length, is_gap });
                clock = clock.checked_add(length).ok_or(Error::UnexpectedValue)?;
            }
            clients.push(Client { id, blocks, end: self.cursor.next });
        }
        each_once(clients.iter().map(|client| client.id).collect())?;
        let deleted = self.cursor.next;
        // What was deleted: for each client, from which clock and how many.
        let mut ids = Vec::new();
        for _ in 0..self.count(2)? {
            ids.push(self.client()?);
            for _ in 0..self.count(2)? {
                let (clock, length) = (self.number()?, self.number()?);
                clock.checked_add(length).ok_or(Error::UnexpectedValue)?;
            }
        }
        each_once(ids)?;
        Ok((clients, deleted))
    }

    /// Its length in the clock, and whether it is a gap.
    fn block(&mut self) -> Scanned<(u32, bool)> {
        let info_at = self.cursor.next;
        let info = self.cursor.read_u8()?;
        // A gap, or what was collected: only its length.
        if info == 10 || info == 0 {
            return Ok((self.number()?, info == 10));
        }
        // Yjs looks at this bit, and yrs does not.
        if info & 0x10 != 0 {
            return Err(Error::UnexpectedValue);
        }
        let (has_left, has_right, has_key) = (info & 0x80 != 0, info & 0x40 != 0, info & 0x20 != 0);
        if has_left {
            self.id()?;
        }
        if has_right {
            self.id()?;
        }
        if !has_left && !has_right {
            if self.number()? == 1 {
                self.string()?; // the name of the root that it belongs to
            } else {
                self.id()?;
            }
            if has_key {
                self.string()?;
            }
        }
        let from = self.cursor.next;
        let (length, special) = self.content(info & 0b1111)?;
        if let Some(special) = special {
            let range = from..self.cursor.next;
            self.contents.push(Content { info: info_at, range, special });
        }
        Ok((length, false))
    }

    /// The content's length in the clock.
    fn content(&mut self, kind: u8) -> Scanned<(u32, Option<Special>)> {
        let length = match kind {
            1 => self.number(),
            4 => {
                let text = std::str::from_utf8(self.string()?);
                length(text.map_err(|_| Error::UnexpectedValue)?.encode_utf16().count())
            }
            3 => self.string().map(|_| 1),
            5 => {
                let special = subdocs::standing(self.string()?).map(Special::Standing);
                return Ok((1, special));
            }
            6 => {
                self.string()?;
                self.string().map(|_| 1)
            }
            TYPE => {
                self.types += 1;
                match self.cursor.read_u8()? {
                    // An array, a map, a text, a fragment, and a text in XML.
                    0 | 1 | 2 | 4 | 6 => Ok(1),
                    // An element, with its name.
                    3 => self.string().map(|_| 1),
                    _ => Err(Error::UnexpectedValue),
                }
            }
            8 => {
                let values = self.count(1)?;
                (0..values).try_for_each(|_| self.value(0))?;
                length(values)
            }
            9 => {
                self.string()?;
                let is_object = self.cursor.buf.get(self.cursor.next) == Some(&OBJECT);
                self.value(0)?;
                if !is_object {
                    return Err(Error::UnexpectedValue);
                }
                return Ok((1, Some(Special::Document)));
            }
            // Also values as the first versions of Yjs wrote them (2): yrs reads one more than there are.
            _ => Err(Error::UnexpectedValue),
        };
        Ok((length?, None))
    }

    fn value(&mut self, depth: u32) -> Scanned {
        if depth > DEPTH {
            return Err(Error::UnexpectedValue);
        }
        match self.cursor.read_u8()? {
            126 | 127 | 120 | 121 => Ok(()),
            125 => self.signed(),
            124 => self.cursor.read_exact(4).map(drop),
            122 | 123 => self.cursor.read_exact(8).map(drop),
            119 | 116 => self.string().map(drop),
            OBJECT => {
                let entries = self.count(2)?;
                (0..entries).try_for_each(|_| self.string().and_then(|_| self.value(depth + 1)))
            }
            117 => {
                let values = self.count(1)?;
                (0..values).try_for_each(|_| self.value(depth + 1))
            }
            _ => Err(Error::UnexpectedValue),
        }
    }

    /// How many entries follow. Fails if the rest is too short for entries of at least `each` bytes.
    fn count(&mut self, each: usize) -> Scanned<usize> {
        let count = usize::try_from(self.cursor.read_var::<u64>()?).unwrap_or(usize::MAX);
        if count <= self.left() / each { Ok(count) } else { Err(Error::EndOfBuffer(count)) }
    }

    /// A client, and a clock.
    fn id(&mut self) -> Scanned<(u64, u32)> {
        Ok((self.client()?, self.number()?))
    }

    fn client(&mut self) -> Scanned<u64> {
        let client = self.cursor.read_var()?;
        if client <= MAX_INTEGER { Ok(client) } else { Err(Error::UnexpectedValue) }
    }

    /// Skips text or bytes, and returns them. Decoding checks later whether a text is UTF-8.
    fn string(&mut self) -> Scanned<&'a [u8]> {
        let length = self.count(1)?;
        let from = self.cursor.next;
        self.cursor.next += length;
        Ok(&self.cursor.buf[from..self.cursor.next])
    }

    fn number(&mut self) -> Scanned<u32> {
        self.cursor.read_var()
    }

    fn signed(&mut self) -> Scanned {
        let number = self.cursor.read_var::<i64>()?;
        if number.unsigned_abs() <= MAX_INTEGER { Ok(()) } else { Err(Error::UnexpectedValue) }
    }

    fn left(&self) -> usize {
        self.cursor.buf.len() - self.cursor.next
    }
}

fn each_once(mut ids: Vec<u64>) -> Scanned {
    ids.sort_unstable();
    let is_twice = ids.windows(2).any(|pair| pair[0] == pair[1]);
    if is_twice { Err(Error::UnexpectedValue) } else { Ok(()) }
}

fn length(count: usize) -> Scanned<u32> {
    u32::try_from(count).map_err(|_| Error::UnexpectedValue)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use yrs::{
        Any, Array, Doc, Map, MapPrelim, Out, ReadTxn, StateVector, Text, Transact,
        XmlElementPrelim, XmlFragment,
        updates::{decoder::Decode, encoder::Encode},
    };

    use super::*;

    fn is_update(bytes: &[u8]) -> bool {
        Update::new(bytes).is_some()
    }

    /// One of each kind of content, with deletions.
    fn everything() -> Vec<u8> {
        let doc = Doc::with_client_id(7);
        let text = doc.get_or_insert_text("text");
        let map = doc.get_or_insert_map("map");
        let array = doc.get_or_insert_array("array");
        let xml = doc.get_or_insert_xml_fragment("xml");
        let mut txn = doc.transact_mut();
        text.insert(&mut txn, 0, "hello wörld");
        text.remove_range(&mut txn, 2, 3);
        text.insert_with_attributes(&mut txn, 1, "bold", [("b".into(), true.into())].into());
        text.insert_embed(&mut txn, 0, Any::from("an image"));
        let nested = map.insert(&mut txn, "nested", MapPrelim::default());
        nested.insert(
            &mut txn,
            "deep",
            Any::from_json(r#"[{"a":[1,2.5,null,true,"x"]}]"#).unwrap(),
        );
        map.insert(&mut txn, "bytes", Any::from(vec![1_u8, 2, 3]));
        map.insert(&mut txn, "gone", 1);
        map.remove(&mut txn, "gone");
        array.push_back(&mut txn, Doc::new());
        array.push_back(&mut txn, Any::from(1_i64 << 60));
        array.insert_range(&mut txn, 0, [1, 2, 3]);
        xml.push_back(&mut txn, XmlElementPrelim::empty("p"));
        txn.encode_state_as_update_v1(&StateVector::default())
    }

    #[test]
    fn all_that_yrs_writes_passes() {
        let bytes = everything();
        assert!(is_update(&bytes) && is_update(&[0, 0]));
        let doc = Doc::new();
        doc.transact_mut().apply_update(Update::new(&bytes).unwrap().decode().unwrap()).unwrap();
        let vector = doc.transact().state_vector().encode_v1();
        assert!(is_state_vector(&vector) && is_state_vector(&[0]));
        let map = doc.get_or_insert_map("map");
        assert!(matches!(map.get(&doc.transact(), "nested"), Some(Out::YMap(_))));
    }

    /// Where a gap begins depends on it.
    #[test]
    fn each_content_is_as_long_as_in_yrs() {
        let bytes = everything();
        let update = Update::new(&bytes).unwrap();
        let doc = Doc::new();
        doc.transact_mut().apply_update(update.decode().unwrap()).unwrap();
        let (clients, _) = clients(update.bytes).unwrap();
        let ends = clients.iter().map(|client| {
            let last = client.blocks.last().unwrap();
            (yrs::ClientID::new(client.id), last.clock + last.length)
        });
        assert_eq!(doc.transact().state_vector(), ends.collect::<StateVector>());
    }

    /// Each of these makes `Y.applyUpdate` fail, or read something else.
    #[test]
    fn what_yjs_does_not_read_as_yrs_does_not_pass() {
        let block = |block: &[u8]| [&[1, 1, 7, 0][..], block, &[0]].concat();
        let value = |value: &[u8]| block(&[&[8, 1, 1, b'a', 1][..], value].concat());
        let large = [0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f]; // 2^54 - 1
        let integer = [0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f]; // 2^53 - 1
        for (good, bad) in [
            (block(&[4, 1, 1, b'a', 1, b'x']), block(&[0x14, 1, 1, b'a', 1, b'x'])),
            (block(&[4, 1, 1, b'a', 1, b'x']), block(&[4, 1, 1, b'a', 0])),
            (block(&[1, 1, 1, b'a', 1]), block(&[1, 1, 1, b'a', 0])),
            (block(&[0, 1]), block(&[0, 0])),
            (block(&[10, 1]), block(&[10, 0])),
            (value(&[126]), block(&[8, 1, 1, b'a', 0])),
            (value(&[126]), block(&[2, 1, 1, b'a', 1, 1, b'1', 1, b'2'])),
            (value(&[&[125][..], &integer].concat()), value(&[&[125][..], &large].concat())),
            (block(&[7, 1, 1, b'a', 6]), block(&[7, 1, 1, b'a', 5])),
            (block(&[7, 1, 1, b'a', 0]), block(&[7, 1, 1, b'a', 9])),
            (block(&[7, 1, 1, b'a', 3, 1, b'p']), block(&[7, 1, 1, b'a', 15])),
            (block(&[9, 1, 1, b'a', 1, b'g', 118, 0]), block(&[9, 1, 1, b'a', 1, b'g', 126])),
        ] {
            assert!(is_update(&good), "{good:?}");
            assert!(!is_update(&bad), "{bad:?}");
        }
    }

    #[test]
    fn a_part_of_an_update_or_more_than_one_does_not_pass() {
        let bytes = everything();
        for length in 0..bytes.len() {
            assert!(!is_update(&bytes[..length]), "{length} of {}", bytes.len());
        }
        assert!(!is_update(&[&*bytes, &[0]].concat()));
    }

    #[test]
    fn counts_that_the_bytes_cannot_hold_do_not_pass() {
        let many = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(!is_update(&many) && !is_state_vector(&many));
        assert!(!is_update(&[&[1][..], &many, &[0, 0]].concat()));
        assert!(!is_update(&[&[0][..], &many].concat()));
        // An array in a block: one client, one block, root "a", content of one value: an array.
        let value = |value: &[u8]| [&[1, 1, 1, 0, 8, 1, 1, b'a', 1][..], value, &[0]].concat();
        assert!(is_update(&value(&[117, 1, 126])));
        assert!(!is_update(&value(&[&[117][..], &many].concat())));
        assert!(!is_update(&value(&[&[118][..], &many].concat())));
    }

    #[test]
    fn a_client_that_comes_twice_a_clock_or_an_id_out_of_range_does_not_pass() {
        let text = |client: &[u8], clock: &[u8]| {
            [&[1][..], client, clock, &[4, 1, 1, b't', 1, b'x']].concat()
        };
        let update =
            |clients: &[Vec<u8>]| [&[clients.len() as u8][..], &clients.concat(), &[0]].concat();
        assert!(is_update(&update(&[text(&[7], &[0]), text(&[8], &[0])])));
        assert!(!is_update(&update(&[text(&[7], &[0]), text(&[7], &[1])])));
        let last = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(!is_update(&update(&[text(&[7], &last)])));
        let large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(is_update(&update(&[text(&[&large[..], &[0x0f]].concat(), &[0])])));
        assert!(!is_update(&update(&[text(&[&large[..], &[0x1f]].concat(), &[0])])));
        // The same among deletions.
        assert!(is_update(&[0, 1, 7, 1, 0, 1]));
        assert!(!is_update(&[&[0, 1, 7, 1, 1][..], &last].concat()));
        assert!(is_update(&[0, 2, 7, 1, 0, 1, 8, 1, 0, 1]));
        assert!(!is_update(&[0, 2, 7, 1, 0, 1, 7, 1, 3, 1]));
    }

    /// Without the scan this ends the process: each array is one more call on the stack.
    #[test]
    fn what_is_nested_deeply_does_not_pass() {
        let nested = |depth: usize| {
            let arrays = [117, 1].repeat(depth);
            [&[1, 1, 1, 0, 8, 1, 1, b'a', 1][..], &arrays, &[126, 0]].concat()
        };
        assert!(is_update(&nested(DEPTH as usize)));
        assert!(!is_update(&nested(DEPTH as usize + 1)));
        assert!(!is_update(&nested(500_000)));
    }

    proptest! {
        /// What yrs decodes of bytes that pass is all of them, and it never panics on the way.
        #[test]
        fn bytes_that_pass_are_decoded_to_their_end(
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)
        ) {
            let mut bytes = everything();
            for (at, byte) in flips {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if is_update(&bytes) {
                drop(yrs::Update::decode_v1(&bytes));
            }
        }
    }
}
