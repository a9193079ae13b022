//! What a sleeping room that is a document takes of the heap, counted by the allocator: the bytes of its connections.
#![allow(missing_docs)]

use std::sync::Arc;

use futures_util::FutureExt;
use partykit_core::{
    Options, Request, RoomAddress, RoomId, Server,
    runtime::{ConnectionKey, Host, RoomCell, RoomKind},
    testing::bare::{Bare, Still, Wire},
};
use partykit_yjs::Yjs;
use peak_alloc::PeakAlloc;
use yrs::{Doc, Text, Transact, encoding::write::Write};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const CONNECTIONS: usize = 200;

/// What an editor tells of its user, as y-codemirror does.
const CURSOR: &str = r##"{"user":{"name":"Ada Lovelace","color":"#30bced"},"cursor":{"anchor":{"type":null,"tname":"text","item":{"client":2271960813,"clock":118},"assoc":0},"head":{"type":null,"tname":"text","item":{"client":2271960813,"clock":118},"assoc":0}}}"##;

/// Weighs nothing that is not said of it.
#[derive(Default)]
struct Plain;

impl Server for Plain {
    fn options() -> Options {
        Yjs::<()>::options()
    }
}

/// The bytes of a sleeping room with [`CONNECTIONS`], to which each has said what `say` gives for its number. What
/// the room has stored is not counted.
fn weigh<S: Server + Default>(say: impl Fn(usize) -> Vec<Vec<u8>>) -> usize {
    let host = Bare::new(Still::of::<S>());
    let backend = host.backend().clone();
    let address = RoomAddress::new("documents", RoomId::new("room").unwrap());
    let room = RoomCell::new(address, RoomKind::new(S::options(), host.clone()));
    let keys: Vec<ConnectionKey> = (0..CONNECTIONS)
        .map(|n| {
            let id = format!("{n:021}");
            let uri = format!("http://127.0.0.1:1999/parties/documents/room?_pk={id}");
            let key = room
                .connect(id.as_str(), uri.as_str(), Request::default(), Arc::new(Wire::default()))
                .unwrap();
            host.runs.run();
            key
        })
        .collect();
    for (n, key) in keys.into_iter().enumerate() {
        for frame in say(n) {
            room.message(key, frame.into()).unwrap();
            host.runs.run();
        }
    }
    room.hibernate().now_or_never().expect("nothing keeps it awake").unwrap();
    host.runs.run();
    assert!(host.runs.is_done(), "it sleeps");
    let asleep = HEAP.current_usage();
    drop((room, host));
    let bytes = asleep - HEAP.current_usage();
    drop(backend);
    bytes
}

fn sync(step: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, step];
    frame.write_buf(payload);
    frame
}

/// What a client says of itself.
fn awareness(client: usize, state: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.write_var(1_usize);
    payload.write_var(client);
    payload.write_var(1_usize);
    payload.write_string(state);
    let mut frame = vec![1];
    frame.write_buf(payload);
    frame
}

/// One test, because all tests of this program share the heap.
#[test]
fn a_sleeping_document_weighs_what_its_connections_do() {
    let document = {
        let doc = Doc::new();
        let text = doc.get_or_insert_text("text");
        let mut txn = doc.transact_mut();
        text.insert(&mut txn, 0, &"All work and no play. ".repeat(100_000));
        txn.encode_update_v1()
    };
    assert!(document.len() > 2_000_000, "a large one");
    // The first writes the document, and some ask for it.
    let asks = |n: usize| match n {
        0 => vec![sync(2, &document), sync(0, &[0])],
        1..5 => vec![sync(0, &[0])],
        _ => Vec::new(),
    };
    let talks = |n: usize| [asks(n), vec![awareness(n + 1, CURSOR)]].concat();

    // What is made once is made before.
    weigh::<Yjs>(asks);
    let bare = weigh::<Plain>(|_| vec![vec![0, 0, 1, 0]]);
    let asked = weigh::<Yjs>(asks);
    let seen = weigh::<Yjs>(talks);
    let slot = (seen - asked) / CONNECTIONS;
    println!(
        "asleep with {CONNECTIONS} connections: {bare} bytes without a document, {asked} with one of {} bytes, and \
         {slot} more for each connection that shows a cursor of {} bytes",
        document.len(),
        CURSOR.len(),
    );
    assert!(asked <= bare + 256, "{asked} bytes, and {bare} without a document");
    // JSON in JSON has a \ for each quote.
    let text = serde_json::to_string(CURSOR).unwrap().len();
    assert!(slot <= text + 96, "{slot} bytes for a state of {text}");
}
