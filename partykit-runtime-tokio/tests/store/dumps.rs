//! Dumps as text, and back.

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use partykit_core::{Backend, Batch, RoomAddress, RoomId, Timestamp, WakeUp};
use partykit_runtime_tokio::store::{
    self, CopyError, DiskBackend, Durability, LoadOptions, Selection,
};
use proptest::prelude::*;

use super::support::{quick_directory as directory, rows};

/// What each room has: its rows, and when it is to be woken.
type Rooms = BTreeMap<(String, String), (BTreeMap<Vec<u8>, Vec<u8>>, Option<u64>)>;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..9),
        "[a-z]{0,6}".prop_map(String::into_bytes),
        "\\PC{0,4}".prop_map(String::into_bytes),
        prop::collection::vec(Just(0), 0..700),
    ]
}

fn content() -> impl Strategy<Value = Rooms> {
    let room = ("[ab]{0,2}", "\\PC{1,3}|[ab]{1,2}");
    let rows = prop::collection::btree_map(bytes(), bytes(), 0..6);
    prop::collection::btree_map(room, (rows, prop::option::of(any::<u64>())), 0..6)
}

fn address((party, room): &(String, String)) -> RoomAddress {
    RoomAddress::new(party.as_str(), RoomId::new(room).unwrap())
}

async fn fill(store: &DiskBackend, rooms: &Rooms) {
    for (name, (rows, at)) in rooms {
        let room = address(name);
        let claim = store.claim(&room).await.unwrap();
        let writes = rows
            .iter()
            .map(|(key, value)| (Bytes::from(key.clone()), Some(Bytes::from(value.clone()))));
        let wake_up = at.map(|at| WakeUp::At(Timestamp::from_millis(at)));
        let batch = Batch { writes: writes.collect(), wake_up, clear: false };
        store.commit(&room, claim.epoch, batch).await.unwrap();
        store.release(&room, claim.epoch);
    }
}

async fn check(store: &DiskBackend, rooms: &Rooms) {
    let mut wakes = Vec::new();
    for (name, (expected, at)) in rooms {
        let found = rows(store, &address(name)).await.unwrap();
        let found = found.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec()));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), *expected, "{name:?}");
        wakes.extend(at.map(|at| (Timestamp::from_millis(at), address(name))));
    }
    let mut found = store.wake_ups(None, usize::MAX).await.unwrap();
    wakes.sort();
    found.sort();
    assert_eq!(found, wakes);
}

fn open(path: &Path) -> DiskBackend {
    DiskBackend::open(path, Durability::Relaxed).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn without_head(text: &[u8]) -> &[u8] {
    &text[text.iter().position(|byte| *byte == b'\n').unwrap()..]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever rooms hold: what is dumped and loaded is the same, and so is its dump.
    #[test]
    fn there_and_back_is_the_identity(rooms in content(), more in content(), split in any::<bool>()) {
        let directory = directory();
        let [a, b, c] = ["a", "b", "c"].map(|name| directory.path().join(name));
        let mut expected = more;
        block_on(async {
            let store = open(&a);
            fill(&store, &expected).await;
            if split {
                // A part is in files of the tree then.
                store.close().await;
                drop(store);
                let store = open(&a);
                fill(&store, &rooms).await;
            } else {
                fill(&store, &rooms).await;
            }
        });
        for (name, (rows, at)) in rooms {
            let all = expected.entry(name).or_default();
            all.0.extend(rows);
            all.1 = at.or(all.1);
        }
        prop_assume!(a.exists());
        let mut text = Vec::new();
        let dump = store::dump(&a, &Selection::All, &mut text, |_| ()).unwrap();
        let rows = expected.values().map(|(rows, _)| rows.len() as u64).sum::<u64>();
        prop_assert_eq!(dump.rows, rows);
        let load = store::load(&text[..], &b, LoadOptions::new(), |_| ()).unwrap();
        prop_assert_eq!((load.rooms, load.rows, load.wake_ups), (dump.rooms, dump.rows, dump.wake_ups));
        let mut again = Vec::new();
        if dump.rooms > 0 {
            store::dump(&b, &Selection::All, &mut again, |_| ()).unwrap();
            prop_assert_eq!(without_head(&text), without_head(&again));
        }
        block_on(async {
            check(&open(&b), &expected).await;
            // From a store that is open, and into one.
            let store = open(&a);
            let (live, text) = store.dump(Selection::All, Vec::new(), |_| ()).await.unwrap();
            assert_eq!((live.rooms, live.rows), (dump.rooms, dump.rows));
            let into = open(&c);
            store::load_into(&text[..], &into, LoadOptions::new(), |_| ()).unwrap();
            check(&into, &expected).await;
        });
    }
}

/// A store of two parties with three rooms, and its dump.
fn sample(path: &Path) -> String {
    let rooms: Rooms = [
        (("chat".into(), "lobby".into()), (row("topic", "\"rust\""), Some(1_767_225_600_000))),
        (("chat".into(), "so\u{f1}o\n".into()), (row("topic", "\"tea\""), None)),
        (("game".into(), "1".into()), ([(b"\xFF".to_vec(), vec![0, 0xFE])].into(), None)),
    ]
    .into();
    block_on(async { fill(&open(path), &rooms).await });
    let mut text = Vec::new();
    store::dump(path, &Selection::All, &mut text, |_| ()).unwrap();
    String::from_utf8(text).unwrap()
}

fn row(key: &str, value: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    [(key.into(), value.into())].into()
}

#[test]
fn its_lines_are_these() {
    let directory = directory();
    let path = directory.path().join("store");
    let text = sample(&path);
    let expected = [
        r#"{"partykit_dump":1,"commit":3}"#,
        r#"{"party":"chat","room":"lobby","wake_up":1767225600000}"#,
        r#"{"party":"chat","room":"lobby","key":"topic","value":"\"rust\""}"#,
        r#"{"party":"chat","room":"soño\n","key":"topic","value":"\"tea\""}"#,
        r#"{"party":"game","room":"1","key":{"base64":"/w=="},"value":{"base64":"AP4="}}"#,
        r#"{"end":{"rooms":3,"rows":3,"wake_ups":1}}"#,
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);

    for (selection, count) in [
        (Selection::party("chat"), 2),
        (Selection::party("game"), 1),
        (Selection::party("cha"), 0),
        (Selection::room("chat", "lobby").unwrap(), 1),
        (Selection::room("game", "lobby").unwrap(), 0),
    ] {
        let mut text = Vec::new();
        let dump = store::dump(&path, &selection, &mut text, |_| ()).unwrap();
        assert_eq!(dump.rooms, count, "{selection:?}");
        let to = directory.path().join(format!("{selection:?}").replace('"', ""));
        store::load(&text[..], &to, LoadOptions::new(), |_| ()).unwrap();
    }
}

/// An alarm of a room is told in a form that people can read.
#[test]
fn a_row_of_the_framework_is_readable() {
    use partykit_core::{Request, Response, Result, Room, Server};
    use partykit_runtime_tokio::Runtime;
    #[derive(Default)]
    struct Clock;
    impl Server for Clock {
        async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
            room.storage().set_alarm(Timestamp::from_millis(4_000_000_000_000))?;
            Ok(Response::default())
        }
    }
    let directory = directory();
    let path = directory.path().join("store");
    block_on(async {
        let builder = Runtime::builder().party::<Clock>("clock").data(&path);
        let runtime = builder.build().unwrap();
        runtime.handle().request("clock", "1", Request::default()).await.unwrap();
        runtime.handle().shutdown().await;
    });
    let mut text = Vec::new();
    store::dump(&path, &Selection::All, &mut text, |_| ()).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains(r#""wake_up":4000000000000"#), "{text}");
    assert!(text.contains(r#""key":"\u0000alarm""#), "{text}");
    assert!(text.contains(r#""means":{"alarm":{"#), "{text}");
    assert!(text.contains("\"scheduled\":4000000000000"), "{text}");
    let to = directory.path().join("copy");
    store::load(text.as_bytes(), &to, LoadOptions::new(), |_| ()).unwrap();
    block_on(async { assert_eq!(open(&to).wake_ups(None, 9).await.unwrap().len(), 1) });
}

#[test]
fn a_dump_that_was_cut_or_changed_is_noticed_and_makes_no_store() {
    let directory = directory();
    let text = sample(&directory.path().join("store"));
    let to = directory.path().join("to");
    let load = |text: &str| store::load(text.as_bytes(), &to, LoadOptions::new(), |_| ());
    let lines: Vec<_> = text.lines().collect();
    let cut = (0..text.len()).filter(|cut| text.is_char_boundary(*cut)).step_by(3);
    for cut in cut.filter(|cut| *cut < text.len() - 1) {
        let error = load(&text[..cut]).unwrap_err();
        assert!(matches!(error, CopyError::Dump { .. }), "{cut} bytes: {error}");
        assert!(!to.exists() && !directory.path().join("to.partial").exists());
    }
    for missing in 0..lines.len() {
        let mut lines = lines.clone();
        lines.remove(missing);
        let error = load(&lines.join("\n")).unwrap_err();
        assert!(matches!(error, CopyError::Dump { .. }), "without line {missing}: {error}");
    }
    for (at, line, says) in [
        (0, r#"{"partykit_dump":2}"#, "line 1 of the dump: a later release"),
        (0, r#"{"party":"a"}"#, "first line"),
        (2, r#"{"party":"chat","room":"lobby","key":"a"}"#, "line 3 of the dump: it is neither"),
        (2, r#"{"party":"chat","key":"a","value":"b"}"#, "no party or no room"),
        (2, r#"{"party":"chat","room":"","key":"a","value":"b"}"#, "a room id has"),
        (2, r#"{"party":"chat","room":"lobby","kee":"a","value":"b"}"#, "unknown field `kee`"),
        (2, r#"{"party":"c","room":"l","key":{"base64":"?"},"value":"b"}"#, "line 3"),
        (3, lines[2], "has this key twice"),
        (4, lines[1], "chat/lobby has rows already"),
        (5, "nonsense", "line 6"),
    ] {
        let mut lines = lines.clone();
        lines[at] = line;
        let error = load(&lines.join("\n")).unwrap_err();
        assert!(error.to_string().contains(says), "{line}: {error}");
        assert!(!to.exists() && !directory.path().join("to.partial").exists());
    }
    let error = load(&format!("{text}{text}")).unwrap_err();
    assert!(error.to_string().contains("something follows the last line"), "{error}");
    load(&text).unwrap();
}

#[test]
fn rooms_that_are_there_are_replaced_when_that_is_said() {
    let directory = directory();
    let [path, to] = ["store", "to"].map(|name| directory.path().join(name));
    let text = sample(&path);
    let old: Rooms = [
        (("chat".into(), "lobby".into()), (row("old", "1"), Some(5))),
        (("chat".into(), "other".into()), (row("old", "1"), None)),
    ]
    .into();
    block_on(async { fill(&open(&to), &old).await });
    let error = store::load(text.as_bytes(), &to, LoadOptions::new(), |_| ()).unwrap_err();
    assert!(matches!(&error, CopyError::RoomExists { room } if room.room().as_str() == "lobby"));
    block_on(async { check(&open(&to), &old).await });
    store::load(text.as_bytes(), &to, LoadOptions::new().replace(true), |_| ()).unwrap();
    let mut merged = Vec::new();
    let dump = store::dump(&to, &Selection::All, &mut merged, |_| ()).unwrap();
    assert_eq!((dump.rooms, dump.rows, dump.wake_ups), (4, 4, 1));
    let merged = String::from_utf8(merged).unwrap();
    assert!(merged.contains("other") && merged.matches("old").count() == 1, "{merged}");
}

/// Also on a thread of a runtime, whose tasks have a budget.
#[tokio::test]
async fn hundreds_of_rooms_are_loaded_within_a_task() {
    let directory = directory();
    let rows = (0..400)
        .map(|n| format!("{{\"party\":\"p\",\"room\":\"{n}\",\"key\":\"k\",\"value\":\"v\"}}\n"));
    let end = "{\"end\":{\"rooms\":400,\"rows\":400,\"wake_ups\":0}}\n";
    let text = format!("{{\"partykit_dump\":1}}\n{}{end}", rows.collect::<String>());
    let to = directory.path().join("to");
    let load = store::load(text.as_bytes(), &to, LoadOptions::new(), |_| ()).unwrap();
    assert_eq!(load.rooms, 400);
}

/// More than one commit holds.
#[test]
fn a_room_of_many_mebibytes_comes_through() {
    let directory = directory();
    let [path, to] = ["store", "to"].map(|name| directory.path().join(name));
    let values =
        (0..20_u8).map(|n| (vec![n], vec![b'a' + n; 1_900_000])).collect::<BTreeMap<_, _>>();
    block_on(async {
        let store = open(&path);
        for (key, value) in values.clone() {
            let rooms = [(("p".into(), "r".into()), ([(key, value)].into(), Some(9)))].into();
            fill(&store, &rooms).await;
        }
    });
    let mut text = Vec::new();
    store::dump(&path, &Selection::All, &mut text, |_| ()).unwrap();
    store::load(&text[..], &to, LoadOptions::new(), |_| ()).unwrap();
    let rooms: Rooms = [(("p".into(), "r".into()), (values, Some(9)))].into();
    block_on(async { check(&open(&to), &rooms).await });
    assert!(store::verify(&to, |_| ()).unwrap().is_sound());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn a_damaged_store_gives_an_error_and_no_last_line() {
    let directory = directory();
    let path = directory.path().join("store");
    sample(&path);
    block_on(async { open(&path).close().await });
    let table = fs::read_dir(path.join("tree/tables")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&table).unwrap();
    bytes[40] ^= 1;
    fs::write(&table, bytes).unwrap();
    let mut text = Vec::new();
    let error = store::dump(&path, &Selection::All, &mut text, |_| ()).unwrap_err();
    assert!(error.to_string().contains("tree/tables"), "{error}");
    assert!(!String::from_utf8(text).unwrap().contains("end"));
}
