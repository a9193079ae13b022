//! What the fuzz target `document_frame` does with its bytes. The same runs as a property test.

use std::sync::OnceLock;

use yrs::{
    Any, Array, ArrayPrelim, Doc, Map, MapPrelim, ReadTxn, StateVector, Text, Transact,
    XmlElementPrelim, XmlFragment, encoding::write::Write, updates::decoder::Decode,
};

use crate::{
    book::on_stack,
    replica::Replica,
    scan::Update,
    wire::{self, Frame},
};

/// Reads one frame of a client, and gives it to a document that has something of each kind.
///
/// The first byte says what the others are: a frame, what stands in a frame, or changes of honest updates. No room
/// takes part, so this is some ten times as fast as the target `document`.
///
/// # Panics
///
/// When a document cannot be read back, or is not the same then, or two documents that have heard the same differ.
pub fn frame(bytes: &[u8]) {
    let Some((&kind, rest)) = bytes.split_first() else { return };
    let story = story();
    match kind % 8 {
        0 => heard(rest),
        1 => heard(&wire::step_1(rest)),
        2 => heard(&wire::step_2(rest)),
        3 => heard(&wire::update(rest)),
        4 => {
            let mut frame = vec![1];
            frame.write_buf(rest);
            heard(&frame);
        }
        5 => heard(&wire::update(&changed(&story.later[0], rest))),
        // One after the other.
        _ => {
            let parts = rest.chunks(((rest.len() / story.later.len()) & !1).max(2));
            let updates = story.later.iter().zip(parts);
            hear_all(&updates.map(|(update, part)| changed(update, part)).collect::<Vec<_>>());
        }
    }
}

/// Sets some bytes of an update: each two say where, and to what.
fn changed(update: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut update = update.to_vec();
    for change in changes.chunks_exact(2) {
        let at = usize::from(change[0]) % update.len();
        update[at] = change[1];
    }
    update
}

fn heard(bytes: &[u8]) {
    let Ok(frame) = Frame::decode(bytes) else { return };
    match frame {
        Frame::Step1(vector) => {
            let Ok(vector) = StateVector::decode_v1(vector) else { return };
            let replica = read(&story().before).expect("what a client has written");
            let missing = replica.beyond(&vector);
            assert!(Update::new(&missing).and_then(Update::decode).is_some(), "an answer");
        }
        Frame::Step2(update) | Frame::Update(update) => hear_all(&[update.bytes.to_vec()]),
        Frame::Awareness(entries) => {
            let again = wire::awareness(entries.iter());
            assert_eq!(Frame::decode(&again), Ok(Frame::Awareness(entries)));
        }
        Frame::Auth | Frame::Query => {}
    }
}

/// Applies updates as a room does that stays awake, and as one that is stored and read after each.
fn hear_all(updates: &[Vec<u8>]) {
    let mut awake = read(&story().before).expect("what a client has written");
    let mut stored: Option<Replica> = None;
    for update in updates {
        let Some(update) = Update::new(update) else { return };
        let read = hear(&mut awake, update);
        if let Some(mut replica) = stored {
            hear(&mut replica, update);
        }
        stored = read;
        if stored.is_none() {
            return;
        }
    }
}

/// Applies an update, and reads what is stored then. `None` if the update cannot be applied.
fn hear(replica: &mut Replica, update: Update<'_>) -> Option<Replica> {
    update.decode()?;
    // When changes wait and others take their place (a client of Yjs never says two things of one clock), yrs tries
    // them again at other times than a document does that reads both.
    let is_settled = replica.waiting().is_some_and(|waiting| waiting.is_empty());
    let merged = on_stack(update.types, || replica.merge(update))?;
    let vector = replica.doc.transact().state_vector();
    let whole = on_stack(update.types, || replica.beyond(&StateVector::default()));
    let scanned = Update::new(&whole).expect("a snapshot");
    let read = on_stack(scanned.types, || read(&whole)).expect("a snapshot that can be read");
    if is_settled {
        let read = read.doc.transact().state_vector();
        assert_eq!(read, vector, "after and before it was stored");
    }
    if !merged.is_waiting {
        let news = Update::new(&merged.news).expect("news");
        assert!(news.decode().is_some(), "news that can be read");
    }
    Some(read)
}

fn read(bytes: &[u8]) -> Option<Replica> {
    let mut replica = Replica::new(99);
    replica.apply(Update::new(bytes)?).then_some(replica)
}

/// What a client has written.
struct Story {
    /// A document with one of each kind of content.
    before: Vec<u8>,
    /// Later updates, each of which touches all of them.
    later: [Vec<u8>; 3],
    /// yrs never frees a document that has one in it. A sanitizer does not mind while it is in use.
    _doc: Doc,
}

fn story() -> &'static Story {
    static STORY: OnceLock<Story> = OnceLock::new();
    STORY.get_or_init(|| {
        let doc = Doc::with_client_id(7);
        let text = doc.get_or_insert_text("t");
        let map = doc.get_or_insert_map("m");
        let array = doc.get_or_insert_array("a");
        let xml = doc.get_or_insert_xml_fragment("x");
        let write = |n: u32| {
            let mut txn = doc.transact_mut();
            text.insert(&mut txn, n, "wörld 🎈");
            text.remove_range(&mut txn, 1, 2);
            text.insert_with_attributes(&mut txn, 2, "bold", [("b".into(), true.into())].into());
            text.insert_embed(&mut txn, 0, Any::from("image"));
            let nested = map.insert(&mut txn, "nested", MapPrelim::default());
            nested.insert(&mut txn, "deep", Any::from_json(r#"[{"a":[1,2.5,null]}]"#).unwrap());
            map.insert(&mut txn, "bytes", Any::from(vec![1_u8, 2]));
            let inner = array.push_back(&mut txn, ArrayPrelim::default());
            inner.push_back(&mut txn, Doc::with_client_id(5));
            array.insert_range(&mut txn, 0, [1, 2, 3]);
            array.push_back(&mut txn, Any::from(1_i64 << 60));
            xml.push_back(&mut txn, XmlElementPrelim::empty("p"));
        };
        write(0);
        let before = doc.transact().encode_state_as_update_v1(&StateVector::default());
        let later = [3, 5, 0].map(|at| {
            let vector = doc.transact().state_vector();
            write(at);
            doc.transact().encode_state_as_update_v1(&vector)
        });
        Story { before, later, _doc: doc }
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn the_honest_updates_are_heard_whole() {
        let story = story();
        let mut replica = read(&story.before).unwrap();
        for update in &story.later {
            let merged = replica.merge(Update::new(update).unwrap()).unwrap();
            assert!(!merged.is_waiting && !merged.news.is_empty());
        }
    }

    /// The first made yrs use what its collector had freed. Only a sanitizer sees that. The second says two things of one
    /// clock, while one of them waits.
    #[test]
    fn what_the_target_has_found() {
        let between_types = [
            13, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 15, 15, 0xc4, 0x2a, 15, 15, 15,
            0x81, 15, 15, 15, 15, 15, 15, 15, 15, 0xe8, 0x2f, 15, 15, 0xe8, 0x26, 0x3f, 0x1c, 6,
            0x10, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 0x10, 15, 15, 15, 15,
        ];
        frame(&between_types);
        frame(&[0x6f, 0x67, 0x63, 13, 0x10, 0xad, 0x10, 3, 0x20, 2, 10, 0, 1, 7, 1, 0x32, 0x44]);
    }

    proptest! {
        #[test]
        fn frames(kind in any::<u8>(), bytes in vec(any::<u8>(), 0..60)) {
            frame(&[&[kind][..], &bytes].concat());
        }

        #[test]
        fn changed_updates(changes in vec(any::<(u8, u8)>(), 0..4)) {
            let changes = changes.into_iter().flat_map(|(at, byte)| [at, byte]);
            let changes = changes.collect::<Vec<_>>();
            for kind in [5, 6] {
                frame(&[&[kind][..], &changes].concat());
            }
        }
    }
}
