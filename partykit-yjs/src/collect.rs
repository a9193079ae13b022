//! Leaves out what was deleted, when a document is stored or sent.
//!
//! The collector of yrs frees what stands in a deleted type, while a forged update may have put other things beside it,
//! which still point there (yrs 0.28). So documents in memory keep types that were deleted, and the length of what stood
//! in them. That is left out of their bytes, as Yjs does it: a deleted value is only its length, and what stood in a
//! deleted type is not even in a list any more. This module can go when the fuzz target `document_frame` passes without
//! `skip_gc` in a later version of yrs.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use yrs::encoding::{
    read::{Cursor, Error, Read},
    write::Write,
};

use crate::scan::{self, Block, Client, TYPE};

/// The kinds of content.
const DELETED: u8 = 1;
/// What a block begins with that is no item: only a length follows.
const COLLECTED: u8 = 0;
const GAP: u8 = 10;
/// Set for an entry of a map.
const HAS_KEY: u8 = 0x20;

/// A client, and a clock.
type Id = (u64, u32);

/// An update of yrs without what it says is deleted. It is borrowed if there is nothing to leave out.
pub(crate) fn collected(update: &[u8]) -> Cow<'_, [u8]> {
    rewritten(update).map_or(Cow::Borrowed(update), Cow::Owned)
}

fn rewritten(bytes: &[u8]) -> Option<Vec<u8>> {
    let (clients, deletions) = scan::clients(bytes)?;
    let deleted = Deleted::read(&bytes[deletions..]).ok()?;
    if deleted.0.is_empty() {
        return None;
    }
    let update = Update { bytes, clients, deleted };
    let (mut is_less, mut has_type) = (false, false);
    for (client, block) in update.blocks() {
        let kind = update.head(block)?.map_or(DELETED, |head| head.kind());
        if kind != DELETED && update.deleted.has(client.id, block) {
            is_less = true;
            has_type |= kind == TYPE;
        }
    }
    if !is_less {
        return None;
    }
    // Text alone needs no look at what belongs to what.
    let gone = if has_type { Some(Gone::find(&update)?) } else { None };
    let mut out = Vec::with_capacity(bytes.len());
    out.write_var(update.clients.len() as u32);
    for (at, client) in update.clients.iter().enumerate() {
        let blocks =
            Blocks::of(&update, client, |n| gone.as_ref().is_some_and(|gone| gone.is(at, n)))?;
        out.write_var(blocks.count);
        out.write_var(client.id);
        out.write_var(client.blocks.first().map_or(0, |first| first.clock));
        out.extend_from_slice(&blocks.bytes);
    }
    out.extend_from_slice(&bytes[deletions..]);
    Some(out)
}

struct Update<'a> {
    bytes: &'a [u8],
    clients: Vec<Client>,
    deleted: Deleted,
}

impl Update<'_> {
    fn blocks(&self) -> impl Iterator<Item = (&Client, &Block)> {
        self.clients
            .iter()
            .flat_map(|client| client.blocks.iter().map(move |block| (client, block)))
    }

    /// `Some(None)` if it is no item.
    fn head(&self, block: &Block) -> Option<Option<Head>> {
        let info = self.bytes[block.from];
        if info == COLLECTED || info == GAP {
            return Some(None);
        }
        Head::read(self.bytes, block.from).ok().map(Some)
    }
}

/// What an item begins with.
struct Head {
    info: u8,
    left: Option<Id>,
    right: Option<Id>,
    /// The type that it says it belongs to. Others belong where their neighbours do.
    parent: Option<Id>,
    /// Where the content begins.
    end: usize,
}

impl Head {
    fn read(bytes: &[u8], from: usize) -> Result<Self, Error> {
        let mut cursor = Cursor::new(bytes);
        cursor.next = from;
        let info = cursor.read_u8()?;
        let mut id = |is_there: bool| -> Result<Option<Id>, Error> {
            is_there.then(|| Ok((cursor.read_var()?, cursor.read_var()?))).transpose()
        };
        let (left, right) = (id(info & 0x80 != 0)?, id(info & 0x40 != 0)?);
        let mut parent = None;
        if left.is_none() && right.is_none() {
            if cursor.read_var::<u32>()? == 1 {
                cursor.read_buf()?;
            } else {
                parent = Some((cursor.read_var()?, cursor.read_var()?));
            }
            if info & HAS_KEY != 0 {
                cursor.read_buf()?;
            }
        }
        Ok(Self { info, left, right, parent, end: cursor.next })
    }

    fn kind(&self) -> u8 {
        self.info & 0b1111
    }
}

/// What is deleted of each client: ranges of the clock, in their order, with something between them.
struct Deleted(HashMap<u64, Vec<Range<u32>>>);

impl Deleted {
    fn read(bytes: &[u8]) -> Result<Self, Error> {
        let mut cursor = Cursor::new(bytes);
        let mut all = HashMap::new();
        for _ in 0..cursor.read_var::<u32>()? {
            let client = cursor.read_var::<u64>()?;
            let mut ranges = Vec::new();
            for _ in 0..cursor.read_var::<u32>()? {
                let (clock, length): (u32, u32) = (cursor.read_var()?, cursor.read_var()?);
                ranges.push(clock..clock.saturating_add(length));
            }
            ranges.sort_unstable_by_key(|range| range.start);
            ranges.dedup_by(|next, last| {
                let is_one = next.start <= last.end;
                if is_one {
                    last.end = last.end.max(next.end);
                }
                is_one
            });
            all.insert(client, ranges);
        }
        Ok(Self(all))
    }

    /// Whether all of a block is deleted.
    fn has(&self, client: u64, block: &Block) -> bool {
        let Some(ranges) = self.0.get(&client) else { return false };
        let after = ranges.partition_point(|range| range.start <= block.clock);
        after > 0 && block.clock + block.length <= ranges[after - 1].end
    }
}

/// Which blocks stand in a deleted type, at any depth.
struct Gone {
    /// For each client, and each of its blocks. `None` while it is not known.
    known: Vec<Vec<Option<bool>>>,
}

impl Gone {
    fn find(update: &Update<'_>) -> Option<Self> {
        let known = update.clients.iter().map(|client| vec![None; client.blocks.len()]).collect();
        let mut gone = Self { known };
        let at: HashMap<u64, usize> =
            update.clients.iter().enumerate().map(|(n, client)| (client.id, n)).collect();
        let place = |(client, clock): Id| {
            let client = *at.get(&client)?;
            let blocks = &update.clients[client].blocks;
            let block = blocks.partition_point(|block| block.clock <= clock).checked_sub(1)?;
            (clock - blocks[block].clock < blocks[block].length).then_some((client, block))
        };
        let head = |(client, block): (usize, usize)| {
            update.head(&update.clients[client].blocks[block]).flatten()
        };
        let item = |id: Option<Id>| place(id?).filter(|place| head(*place).is_some());
        let mut path = Vec::new();
        for client in 0..update.clients.len() {
            for block in 0..update.clients[client].blocks.len() {
                let mut here = (client, block);
                // From neighbour to neighbour, and from a type to the one that it stands in. A loop, because a
                // client may make this as long as it likes.
                let is_gone = loop {
                    if let Some(known) = gone.known[here.0][here.1] {
                        break known;
                    }
                    gone.known[here.0][here.1] = Some(false);
                    path.push(here);
                    let Some(head) = head(here) else { break false };
                    if let Some(neighbour) = item(head.left).or_else(|| item(head.right)) {
                        here = neighbour;
                        continue;
                    }
                    let Some(parent) = item(head.parent) else { break false };
                    let of = &update.clients[parent.0];
                    if update.deleted.has(of.id, &of.blocks[parent.1]) {
                        break true;
                    }
                    here = parent;
                };
                for (client, block) in path.drain(..) {
                    gone.known[client][block] = Some(is_gone);
                }
            }
        }
        Some(gone)
    }

    fn is(&self, client: usize, block: usize) -> bool {
        self.known[client][block] == Some(true)
    }
}

/// The blocks of a client, as they are written.
#[derive(Default)]
struct Blocks {
    bytes: Vec<u8>,
    count: u32,
    /// Not written yet: the next may be joined with it.
    last: Option<Last>,
}

enum Last {
    Collected(u32),
    Deleted { from: usize, head: Head, length: u32 },
}

impl Blocks {
    fn of(update: &Update<'_>, client: &Client, is_gone: impl Fn(usize) -> bool) -> Option<Self> {
        let mut blocks = Self::default();
        for (n, block) in client.blocks.iter().enumerate() {
            let Block { from, clock, length, .. } = *block;
            let head = update.head(block)?;
            match (head, &mut blocks.last) {
                _ if block.is_gap => blocks.whole(update.bytes, client, n),
                (head, Some(Last::Collected(last))) if head.is_none() || is_gone(n) => {
                    *last += length;
                }
                (head, _) if head.is_none() || is_gone(n) => {
                    blocks.next(update.bytes, Some(Last::Collected(length)));
                }
                (Some(head), last)
                    if head.kind() == DELETED || update.deleted.has(client.id, block) =>
                {
                    match last {
                        Some(Last::Deleted { head: before, length: sum, .. })
                            if head.left == Some((client.id, clock.wrapping_sub(1)))
                                && head.right == before.right
                                && (head.info ^ before.info) & HAS_KEY == 0 =>
                        {
                            *sum += length;
                        }
                        _ => blocks.next(update.bytes, Some(Last::Deleted { from, head, length })),
                    }
                }
                _ => blocks.whole(update.bytes, client, n),
            }
        }
        blocks.next(update.bytes, None);
        Some(blocks)
    }

    /// Writes a block as it is.
    fn whole(&mut self, bytes: &[u8], client: &Client, n: usize) {
        self.next(bytes, None);
        self.bytes.extend_from_slice(&bytes[client.range(n..n + 1)]);
        self.count += 1;
    }

    fn next(&mut self, bytes: &[u8], next: Option<Last>) {
        match std::mem::replace(&mut self.last, next) {
            None => return,
            Some(Last::Collected(length)) => {
                self.bytes.push(COLLECTED);
                self.bytes.write_var(length);
            }
            Some(Last::Deleted { from, head, length }) => {
                self.bytes.push(head.info & 0xf0 | DELETED);
                self.bytes.extend_from_slice(&bytes[from + 1..head.end]);
                self.bytes.write_var(length);
            }
        }
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use yrs::{
        Any, Array, ArrayPrelim, ClientID, Doc, GetString, Map, MapPrelim, OffsetKind, Options,
        Out, ReadTxn, StateVector, Text, TextPrelim, Transact, WriteTxn, types::ToJson,
    };

    use super::*;
    use crate::{replica::Replica, scan};

    fn doc(client: u64, skip_gc: bool) -> Doc {
        let options = Options::with_client_id(ClientID::new(client));
        Doc::with_options(Options { offset_kind: OffsetKind::Utf16, skip_gc, ..options })
    }

    fn whole(doc: &Doc) -> Vec<u8> {
        doc.transact().encode_state_as_update_v1(&StateVector::default())
    }

    fn apply(doc: &Doc, bytes: &[u8]) {
        let update = scan::Update::new(bytes).expect("an update").decode().expect("all of it");
        doc.transact_mut().apply_update(update).unwrap();
    }

    fn hear(replica: &mut Replica, bytes: &[u8]) {
        assert!(replica.apply(scan::Update::new(bytes).expect("an update")));
    }

    fn holds(bytes: &[u8], text: &str) -> bool {
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    }

    #[test]
    fn a_deleted_value_is_only_its_length() {
        let doc = doc(7, true);
        let text = doc.get_or_insert_text("t");
        text.insert(&mut doc.transact_mut(), 0, "kept secret kept");
        text.remove_range(&mut doc.transact_mut(), 5, 7);
        let (before, after) = (whole(&doc), collected(&whole(&doc)).into_owned());
        assert!(holds(&before, "secret") && !holds(&after, "secret"));
        // The first block, 7 deleted letters behind the fifth, and the last block.
        let bytes = [&[1, 3, 7, 0, 4, 1, 1, b't', 5][..], b"kept ", &[0x81, 7, 4, 7]].concat();
        assert!(after.starts_with(&bytes), "{after:?}");
        assert!(
            matches!(collected(&after), Cow::Borrowed(_)),
            "there is nothing more to leave out"
        );
    }

    /// What stood in a deleted type is joined, of any kind.
    #[test]
    fn what_stood_in_a_deleted_type_is_in_no_list_any_more() {
        let doc = doc(7, true);
        let map = doc.get_or_insert_map("m");
        {
            let mut txn = doc.transact_mut();
            let outer = map.insert(&mut txn, "k", MapPrelim::default());
            let inner = outer.insert(&mut txn, "deep", ArrayPrelim::default());
            inner.push_back(&mut txn, "secret");
            inner.push_back(&mut txn, MapPrelim::from([("more", "secrets")]));
            outer.insert(&mut txn, "other", Any::from("secret"));
        }
        map.remove(&mut doc.transact_mut(), "k");
        let deletions = [1, 7, 1, 0, 6];
        let outer = [1, 2, 7, 0, 0x21, 1, 1, b'm', 1, b'k', 1];
        let gone = [COLLECTED, 5];
        assert_eq!(*collected(&whole(&doc)), [&outer[..], &gone, &deletions].concat());
    }

    /// One that knows a part gets the rest in the same way.
    #[test]
    fn a_difference_has_nothing_that_was_deleted() {
        let mut replica = Replica::new(99);
        let client = doc(7, false);
        let text = client.get_or_insert_text("t");
        text.insert(&mut client.transact_mut(), 0, "known ");
        hear(&mut replica, &whole(&client));
        let known = client.transact().state_vector();
        let mut txn = client.transact_mut();
        text.insert(&mut txn, 6, "secret");
        hear(&mut replica, &txn.encode_update_v1());
        drop(txn);
        let mut txn = client.transact_mut();
        text.remove_range(&mut txn, 6, 6);
        hear(&mut replica, &txn.encode_update_v1());
        drop(txn);
        assert!(!holds(&replica.doc.transact().encode_diff_v1(&known), "secret"), "in memory");
        assert!(!holds(&replica.beyond(&known), "secret"));
        let mut second = Replica::new(98);
        let merged = second.merge(scan::Update::new(&replica.beyond(&known)).unwrap());
        assert!(merged.unwrap().is_waiting);
        hear(&mut second, &whole(&client));
        assert_eq!(second.doc.get_or_insert_text("t").get_string(&second.doc.transact()), "known ");
    }

    /// Something is put between neighbours of which only one stands in a type that is deleted. With its collector,
    /// yrs uses what it has freed at the second update. Only a sanitizer sees that.
    #[test]
    fn what_is_put_between_types_points_to_nothing_that_was_freed() {
        // A map in the map "m", something in it (7, 1), and the text "abc" from (7, 2) on.
        let before = [
            &[1, 3, 7, 0][..],
            &[0x27, 1, 1, b'm', 1, b'n', 1],
            &[0x28, 0, 7, 0, 1, b'd', 1, 125, 1],
            &[4, 1, 1, b't', 3, b'a', b'b', b'c'],
            &[0],
        ];
        let forged = [
            &[1, 4, 7, 5][..],
            // Between (7, 1) and (7, 2), and so on.
            &[0xc4, 7, 1, 7, 2, 1, b'w'],
            &[0xc4, 7, 5, 7, 3, 4, b'a', b'b', b'c', b'd'],
            &[0xc4, 7, 6, 7, 2, 1, b'x'],
            &[0x44, 7, 8, 1, b'z'],
            // The map is deleted.
            &[1, 7, 1, 0, 1],
        ];
        let mut replica = Replica::new(99);
        hear(&mut replica, &before.concat());
        let merged = replica.merge(scan::Update::new(&forged.concat()).unwrap()).unwrap();
        assert!(!merged.is_waiting);
        assert!(replica.doc.skip_gc());
        let (stored, is_less) = replica.snapshot();
        assert!(is_less);
        let mut read = Replica::new(98);
        hear(&mut read, &stored);
        assert_eq!(read.doc.transact().state_vector(), replica.doc.transact().state_vector());
        let text = |replica: &Replica| content(&replica.doc).0;
        assert_eq!((text(&replica), text(&read)), ("abc".to_owned(), "abc".to_owned()));
        assert!(read.snapshot().0.len() <= stored.len());
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Type(u8),
        Erase(u8, u8),
        Set(u8),
        Nest(u8),
        Deepen(u8),
        Unset(u8),
        Push,
        Pull(u8),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            any::<u8>().prop_map(Act::Type),
            any::<(u8, u8)>().prop_map(|(at, many)| Act::Erase(at, many)),
            any::<u8>().prop_map(Act::Set),
            any::<u8>().prop_map(Act::Nest),
            any::<u8>().prop_map(Act::Deepen),
            any::<u8>().prop_map(Act::Unset),
            Just(Act::Push),
            any::<u8>().prop_map(Act::Pull),
        ]
    }

    /// Changes a document, and says how.
    fn made(doc: &Doc, act: Act) -> Vec<u8> {
        let mut txn = doc.transact_mut();
        let (text, map, array) =
            (txn.get_or_insert_text("t"), txn.get_or_insert_map("m"), txn.get_or_insert_array("a"));
        let key = |key: u8| format!("{}", key % 3);
        match act {
            Act::Type(at) => {
                let at = u32::from(at) % (text.len(&txn) + 1);
                text.insert(&mut txn, at, "some text");
            }
            Act::Erase(at, many) => {
                let length = text.len(&txn);
                let at = u32::from(at) % (length + 1);
                text.remove_range(&mut txn, at, u32::from(many % 16).min(length - at));
            }
            Act::Set(at) => {
                map.insert(&mut txn, key(at), Any::from("some value"));
            }
            Act::Nest(at) => {
                map.insert(&mut txn, key(at), MapPrelim::from([("a", 1)]));
            }
            Act::Deepen(at) => {
                if let Some(Out::YMap(inner)) = map.get(&txn, &key(at)) {
                    inner.insert(&mut txn, "t", TextPrelim::new("deep"));
                    inner.insert(&mut txn, "m", MapPrelim::from([("b", 2)]));
                }
            }
            Act::Unset(at) => {
                map.remove(&mut txn, &key(at));
            }
            Act::Push => {
                let inner = array.push_back(&mut txn, ArrayPrelim::from([1, 2]));
                inner.push_back(&mut txn, TextPrelim::new("in a list"));
            }
            Act::Pull(at) => {
                let length = array.len(&txn);
                if length > 0 {
                    array.remove(&mut txn, u32::from(at) % length);
                }
            }
        }
        txn.commit();
        txn.encode_update_v1()
    }

    fn content(doc: &Doc) -> (String, Any, Any) {
        let mut txn = doc.transact_mut();
        let text = txn.get_or_insert_text("t").get_string(&txn);
        let (map, array) = (txn.get_or_insert_map("m"), txn.get_or_insert_array("a"));
        (text, map.to_json(&txn), array.to_json(&txn))
    }

    proptest! {
        /// What is stored is no more than what yrs would store with its own collector, and means the same, also when it
        /// was stored and read in between.
        #[test]
        fn what_is_stored_is_what_yrs_would_store(
            acts in vec((any::<bool>(), act(), proptest::bool::weighted(0.3)), 1..40)
        ) {
            let clients = [doc(7, false), doc(8, false)];
            let own = doc(98, false);
            let mut replica = Replica::new(99);
            for (is_second, act, meets) in acts {
                let update = made(&clients[usize::from(is_second)], act);
                apply(&own, &update);
                hear(&mut replica, &update);
                if meets {
                    let (stored, _) = replica.snapshot();
                    replica = Replica::new(99);
                    hear(&mut replica, &stored);
                    clients.iter().for_each(|client| apply(client, &stored));
                }
            }
            let (stored, _) = replica.snapshot();
            let read = doc(97, false);
            apply(&read, &stored);
            prop_assert_eq!(content(&read), content(&own));
            prop_assert_eq!(content(&replica.doc), content(&own));
            prop_assert!(stored.len() <= whole(&own).len(), "{} bytes, yrs {}", stored.len(), whole(&own).len());
        }
    }
}
