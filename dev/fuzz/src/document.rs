use std::sync::atomic::{AtomicU64, Ordering};

use arbitrary::Arbitrary;
use futures_executor::block_on;
use partykit_core::testing::{TestConnection, TestRoom};
use partykit_yjs::Yjs;
use yrs::{
    Array, ArrayPrelim, ClientID, Doc, GetString, Map, MapPrelim, OffsetKind, Options, ReadTxn,
    StateVector, Text, Transact, Update, WriteTxn,
    encoding::{
        read::{Cursor, Read},
        write::Write,
    },
    updates::{decoder::Decode, encoder::Encode},
};

/// What two clients of a document do, one of which is broken.
#[derive(Arbitrary, Clone, Debug)]
enum Act {
    /// A client changes its document, and says so.
    Edit(Writer, Edit),
    /// The same, with some bytes changed on the way.
    Garble(Writer, Edit, Vec<(u16, u8)>),
    /// The same, cut short.
    Cut(Writer, Edit, u16),
    /// Any bytes behind what an update begins with.
    Update(Vec<u8>),
    /// Any bytes behind what a state vector begins with.
    Step1(Vec<u8>),
    /// Any bytes behind what awareness begins with.
    Awareness(Vec<u8>),
    /// Any frame.
    Junk(Vec<u8>),
    /// Somebody asks for the document: it is loaded, and perhaps made a snapshot.
    Join,
    Sleep,
    Crash,
}

/// Which of two documents.
type Writer = bool;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Edit {
    Insert(u8, u8),
    Remove(u8, u8),
    Set(u8, u8),
    Nest(u8),
    Push(u8),
}

static FRAMES: AtomicU64 = AtomicU64::new(0);

/// How many frames [`document`] has had rooms decode and apply, in this process.
pub fn frames() -> u64 {
    FRAMES.load(Ordering::Relaxed)
}

/// Has a room whose server is a document hear what the bytes say, awake and woken.
///
/// # Panics
///
/// When one of these does not hold: a client's junk is no failure of the room, who listened from the beginning
/// has what a newcomer gets, and a crash changes nothing of it.
pub fn document(bytes: &[u8]) {
    block_on(run(&crate::values(bytes)));
}

async fn run(acts: &[Act]) {
    let room = TestRoom::<Yjs>::new();
    let documents = [doc(1), doc(2)];
    // After a change that was lost or is not what its client made, yrs shows what follows, or does not, by the way
    // in which it arrives. And a forged one may make a client on yrs alone use memory that it has freed.
    let is_whole = !acts
        .iter()
        .any(|act| matches!(act, Act::Garble(..) | Act::Cut(..) | Act::Update(_) | Act::Junk(_)));
    let mut listener = Reader::join(&room, "listener", doc(98), is_whole).await;
    let mut sender = room.connect("sender").await;
    for act in acts.iter().take(64) {
        let say = match act {
            Act::Edit(writer, edit) => frame(2, &made(&documents[usize::from(*writer)], *edit)),
            Act::Garble(writer, edit, changes) => {
                let mut update = made(&documents[usize::from(*writer)], *edit);
                for (at, byte) in changes.iter().take(4) {
                    let at = usize::from(*at) % update.len();
                    update[at] = *byte;
                }
                frame(2, &update)
            }
            Act::Cut(writer, edit, at) => {
                let mut update = made(&documents[usize::from(*writer)], *edit);
                update.truncate(usize::from(*at) % update.len());
                frame(1, &update)
            }
            Act::Update(bytes) => frame(2, bytes),
            Act::Step1(bytes) => frame(0, bytes),
            Act::Awareness(bytes) => {
                let mut frame = vec![1];
                frame.write_buf(bytes);
                frame
            }
            Act::Junk(bytes) => bytes.clone(),
            Act::Join => {
                let joiner = Reader::join(&room, "joiner", doc(99), is_whole).await;
                joiner.connection.vanish().await;
                continue;
            }
            Act::Sleep => {
                room.hibernate().await.expect("nothing keeps a document awake");
                continue;
            }
            Act::Crash => {
                listener.hear();
                room.crash().await;
                listener = Reader::join(&room, "listener", listener.document, is_whole).await;
                sender = room.connect("sender").await;
                continue;
            }
        };
        sender.send(say).await;
        FRAMES.fetch_add(1, Ordering::Relaxed);
    }
    assert!(sender.is_open(), "closed: {:?}", sender.closed());
    assert_eq!(room.errors(), Vec::<String>::new());

    listener.hear();
    let newcomer = Reader::join(&room, "newcomer", doc(99), is_whole).await;
    if is_whole {
        assert_eq!(newcomer.content(), listener.content(), "who listened, and who came later");
    }
    room.crash().await;
    let survivor = Reader::join(&room, "survivor", doc(99), is_whole).await;
    if is_whole {
        assert_eq!(survivor.content(), newcomer.content(), "after and before a crash");
    }
    assert_eq!(room.errors(), Vec::<String>::new());
}

/// A client that only looks.
struct Reader {
    connection: TestConnection,
    document: Doc,
    /// Whether it applies what it hears.
    applies: bool,
}

impl Reader {
    /// Asks for what is not in its document.
    async fn join(room: &TestRoom<Yjs>, id: &str, document: Doc, applies: bool) -> Self {
        let connection = room.connect(id).await;
        let vector = document.transact().state_vector().encode_v1();
        connection.send(frame(0, &vector)).await;
        let reader = Self { connection, document, applies };
        reader.hear();
        reader
    }

    /// Takes all updates that have arrived.
    fn hear(&self) {
        for message in self.connection.received() {
            let mut cursor = Cursor::new(message.as_bytes());
            let is_update =
                matches!(cursor.read_u8(), Ok(0)) && matches!(cursor.read_u8(), Ok(1 | 2));
            if is_update {
                let update = Update::decode_v1(cursor.read_buf().expect("a whole frame"));
                let update = update.expect("the room passes on what can be read");
                if self.applies {
                    let _ = self.document.transact_mut().apply_update(update);
                }
            }
        }
    }

    /// What a user sees of the document.
    fn content(&self) -> (String, String, String) {
        let mut txn = self.document.transact_mut();
        let text = txn.get_or_insert_text("text");
        let map = txn.get_or_insert_map("map");
        let array = txn.get_or_insert_array("array");
        let text = text.get_string(&txn);
        let mut entries: Vec<_> =
            map.iter(&txn).map(|(key, value)| format!("{key}: {value:?}")).collect();
        entries.sort();
        (text, entries.join(", "), array.len(&txn).to_string())
    }
}

fn doc(number: u64) -> Doc {
    let options = Options::with_client_id(ClientID::new(number));
    Doc::with_options(Options { offset_kind: OffsetKind::Utf16, ..options })
}

/// Changes a document, and says how.
fn made(document: &Doc, edit: Edit) -> Vec<u8> {
    let before = document.transact().state_vector();
    {
        let mut txn = document.transact_mut();
        match edit {
            Edit::Insert(at, letter) => {
                let text = txn.get_or_insert_text("text");
                let at = u32::from(at) % (text.len(&txn) + 1);
                text.insert(&mut txn, at, &char::from(letter).to_string());
            }
            Edit::Remove(at, many) => {
                let text = txn.get_or_insert_text("text");
                let length = text.len(&txn);
                let at = u32::from(at) % (length + 1);
                text.remove_range(&mut txn, at, u32::from(many).min(length - at));
            }
            Edit::Set(key, value) => {
                let map = txn.get_or_insert_map("map");
                map.insert(&mut txn, (key % 4).to_string(), i64::from(value));
            }
            Edit::Nest(key) => {
                let map = txn.get_or_insert_map("map");
                map.insert(&mut txn, (key % 4).to_string(), MapPrelim::from([("a", 1_i64)]));
            }
            Edit::Push(value) => {
                let array = txn.get_or_insert_array("array");
                array.push_back(&mut txn, ArrayPrelim::from([i64::from(value)]));
            }
        }
    }
    let txn = document.transact();
    match edit {
        // What is deleted has no place in a state vector.
        Edit::Remove(..) => txn.encode_state_as_update_v1(&StateVector::default()),
        _ => txn.encode_state_as_update_v1(&before),
    }
}

fn frame(step: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, step];
    frame.write_buf(payload);
    frame
}
