//! Checks an update before it is decoded.
//!
//! `yrs` reserves memory for the number of items that an update announces, and recurses for each nested
//! array. So a few bytes could use hundreds of megabytes, and a message of a megabyte could use up the stack,
//! which ends the process. An update that passes here has no count that its bytes cannot hold, and nothing is
//! nested deeper than [`DEPTH`].

use yrs::{
    encoding::read::{Cursor, Error, Read},
    updates::decoder::Decode,
};

/// How deep values may be nested in one another: as deep as serde_json reads.
pub(crate) const DEPTH: u32 = 128;

/// An update in Yjs's first format that is safe to decode. It is complete, and no bytes follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Update<'a> {
    pub(crate) bytes: &'a [u8],
    /// How many nested types it makes.
    pub(crate) types: u32,
}

impl<'a> Update<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        let mut scan = Scan { cursor: Cursor::new(bytes), types: 0 };
        scan.update().ok().filter(|()| !scan.cursor.has_content())?;
        Some(Self { bytes, types: scan.types })
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

/// A state vector that is safe to decode.
pub(crate) fn is_state_vector(bytes: &[u8]) -> bool {
    let mut scan = Scan { cursor: Cursor::new(bytes), types: 0 };
    let done = scan.count(2).and_then(|clients| (0..clients).try_for_each(|_| scan.id()));
    done.is_ok() && !scan.cursor.has_content()
}

type Scanned<T = ()> = Result<T, Error>;

struct Scan<'a> {
    cursor: Cursor<'a>,
    types: u32,
}

impl Scan<'_> {
    fn update(&mut self) -> Scanned {
        for _ in 0..self.count(3)? {
            let blocks = self.count(2)?;
            self.id()?; // the client, and its first clock here
            for _ in 0..blocks {
                self.block()?;
            }
        }
        // What was deleted: for each client, from which clock and how many.
        for _ in 0..self.count(2)? {
            self.cursor.read_var::<u64>()?;
            for _ in 0..self.count(2)? {
                self.number()?;
                self.number()?;
            }
        }
        Ok(())
    }

    fn block(&mut self) -> Scanned {
        let info = self.cursor.read_u8()?;
        // A gap, or what was collected: only its length.
        if info == 10 || info == 0 {
            return self.number().map(drop);
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
        self.content(info & 0b1111)
    }

    fn content(&mut self, kind: u8) -> Scanned {
        match kind {
            1 => self.number().map(drop),
            // yrs reads one more than the bytes say.
            2 => {
                let texts = self.count(1)?;
                (0..=texts).try_for_each(|_| self.string())
            }
            3..=5 => self.string(),
            6 => self.string().and_then(|()| self.string()),
            7 => {
                self.types += 1;
                // Only an element has a name here.
                if self.cursor.read_u8()? == 3 { self.string() } else { Ok(()) }
            }
            8 => {
                let values = self.count(1)?;
                (0..values).try_for_each(|_| self.value(0))
            }
            9 => self.string().and_then(|()| self.value(0)),
            _ => Err(Error::UnexpectedValue),
        }
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
            119 | 116 => self.string(),
            118 => {
                let entries = self.count(2)?;
                (0..entries).try_for_each(|_| self.string().and_then(|()| self.value(depth + 1)))
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

    fn id(&mut self) -> Scanned {
        self.cursor.read_var::<u64>()?;
        self.number().map(drop)
    }

    /// Skips text or bytes. Decoding checks later whether a text is UTF-8.
    fn string(&mut self) -> Scanned {
        let length = self.count(1)?;
        self.cursor.next += length;
        Ok(())
    }

    fn number(&mut self) -> Scanned<u32> {
        self.cursor.read_var()
    }

    fn signed(&mut self) -> Scanned {
        self.cursor.read_var::<i64>().map(drop)
    }

    fn left(&self) -> usize {
        self.cursor.buf.len() - self.cursor.next
    }
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
                let _ = std::panic::catch_unwind(|| yrs::Update::decode_v1(&bytes).is_ok());
            }
        }
    }
}
