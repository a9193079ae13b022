use serde_json::{Value, json};

use crate::{
    Call, Command, Range,
    suite::{Client, Mode, Target},
};

fn put(key: &str, value: impl Into<Value>) -> Command {
    Command::Put { key: key.into(), value: value.into() }
}

fn say(text: &str) -> Command {
    Command::Broadcast { text: text.into(), tag: None, except_me: false }
}

fn all(commands: Vec<Command>) -> Command {
    Command::All { commands, fail: false }
}

fn rows_of(answer: &Value) -> Vec<String> {
    let rows = answer["rows"].as_array().expect("rows").iter();
    rows.map(|row| row[0].as_str().expect("a key").to_owned()).collect()
}

/// The keys of all rows.
async fn keys(client: &mut Client) -> Vec<String> {
    rows_of(&client.ask(Command::List(Range::default())).await)
}

async fn size(client: &mut Client, key: String) -> Value {
    client.ask(Command::Size { key }).await["bytes"].clone()
}

/// Ranges, and the keys that they have of `a`, `b:1`, `b:2`, `b:3`, `c` and `é`.
fn ranges() -> Vec<(Range, &'static str)> {
    let some = |key: &str| Some(key.to_owned());
    let all = Range::default;
    let b = || Range { prefix: "b:".into(), ..all() };
    vec![
        (all(), "a b:1 b:2 b:3 c é"),
        (Range { reverse: true, ..all() }, "é c b:3 b:2 b:1 a"),
        (b(), "b:1 b:2 b:3"),
        (Range { prefix: "b:4".into(), ..all() }, ""),
        (Range { limit: Some(0), ..all() }, ""),
        (Range { limit: Some(2), ..all() }, "a b:1"),
        (Range { limit: Some(100), ..b() }, "b:1 b:2 b:3"),
        (Range { limit: Some(1), reverse: true, ..b() }, "b:3"),
        (Range { start: some("b:2"), ..all() }, "b:2 b:3 c é"),
        (Range { start: some("b:25"), ..all() }, "b:3 c é"),
        (Range { start_after: some("b:2"), ..all() }, "b:3 c é"),
        (Range { start_after: some("é"), ..all() }, ""),
        (Range { end: some("b:2"), ..all() }, "a b:1"),
        (Range { end: some("a"), ..all() }, ""),
        (Range { start: some("b:2"), end: some("c"), ..all() }, "b:2 b:3"),
        (Range { start: some("b:2"), end: some("c"), reverse: true, ..all() }, "b:3 b:2"),
        (Range { start: some("c"), end: some("b:2"), ..all() }, ""),
        (Range { start: some("b:2"), end: some("b:2"), ..all() }, ""),
        (Range { start: some("a"), ..b() }, "b:1 b:2 b:3"),
        (Range { start_after: some("b:1"), end: some("b:3"), ..b() }, "b:2"),
        (Range { end: some("z"), limit: Some(2), ..b() }, "b:1 b:2"),
        (Range { start: some("c"), ..b() }, ""),
    ]
}

const KEYS: [&str; 6] = ["c", "b:2", "é", "a", "b:3", "b:1"];

async fn lists(target: &Target, case: &str, stream: bool) {
    for mode in Mode::BOTH {
        let room = target.room(mode, case);
        let mut client = room.connect("ada").await;
        for key in KEYS {
            client.ask(put(key, key)).await;
        }
        room.sleep().await;
        for (range, expected) in ranges() {
            let range = Range { stream, ..range };
            let answer = client.ask(Command::List(range.clone())).await;
            let expected: Vec<_> = expected.split_whitespace().collect();
            assert_eq!(rows_of(&answer), expected, "{range:?} in {room:?}");
            let values = answer["rows"].as_array().into_iter().flatten();
            assert!(values.into_iter().all(|row| row[0] == row[1]), "{answer}");
        }
    }
}

pub(super) async fn lists_have_bounds(target: &Target) {
    lists(target, "lists", false).await;
}

/// And give the same, also of more rows than are loaded at once.
pub(super) async fn streams_are_lists(target: &Target) {
    lists(target, "streams", true).await;
    let room = target.room(Mode::Hibernating, "long-stream");
    for batch in 0..10 {
        let commands = (0..60).map(|n| put(&format!("{:03}", batch * 60 + n), "x".repeat(100)));
        room.perform(all(commands.collect())).await;
    }
    let stream = |reverse| Command::List(Range { stream: true, reverse, ..Range::default() });
    let mut expected: Vec<_> = (0..600).map(|n| format!("{n:03}")).collect();
    assert_eq!(rows_of(&room.perform(stream(false)).await), expected);
    expected.reverse();
    assert_eq!(rows_of(&room.perform(stream(true)).await), expected);
}

pub(super) async fn lists_see_what_the_handler_wrote(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "lists-and-writes");
        let mut client = room.connect("ada").await;
        for key in ["a", "b", "d"] {
            client.ask(put(key, 1)).await;
        }
        room.sleep().await;
        for stream in [false, true] {
            let list = Command::List(Range { limit: Some(3), stream, ..Range::default() });
            let delete = Command::Delete { key: "b".into() };
            let commands = vec![put("c", 2), put("a", 2), delete, put("e", 2), list.clone()];
            let failing = Command::Transaction {
                commands: [commands.clone(), vec![Command::Fail { put: None }]].concat(),
                fail: false,
            };
            let answer = client.ask(all(vec![failing, list.clone()])).await["answers"].clone();
            assert_eq!(answer[0]["kept"], false);
            assert_eq!(answer[1]["rows"], json!([["a", 1], ["b", 1], ["d", 1]]));
            let answer = client.ask(all(commands)).await["answers"][4].clone();
            assert_eq!(answer["rows"], json!([["a", 2], ["c", 2], ["d", 1]]), "in {room:?}");
            let commands = vec![
                put("a", 1),
                put("b", 1),
                Command::Delete { key: "c".into() },
                Command::Delete { key: "e".into() },
            ];
            client.ask(all(commands)).await;
        }
    }
}

pub(super) async fn keys_have_2048_bytes(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "key-limit");
        let mut client = room.connect("ada").await;
        for (key_bytes, error) in [
            (0, json!("invalid-key")),
            (1, json!(null)),
            (2047, json!(null)),
            (2048, json!(null)),
            (2049, json!("invalid-key")),
        ] {
            let put = Command::PutSized { key: String::new(), key_bytes, bytes: 2 };
            assert_eq!(client.ask(put).await["error"], error, "{key_bytes} bytes");
        }
        // Two bytes each.
        let long = "é".repeat(1024);
        client.ask(put(&long, 1)).await;
        room.sleep().await;
        let lengths: Vec<_> = keys(&mut client).await.iter().map(String::len).collect();
        assert_eq!(lengths, [1, 2047, 2048, 2048]);
        assert_eq!(client.ask(Command::Get { key: long }).await["value"], 1);
    }
}

pub(super) async fn rows_have_two_million_bytes(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "row-limit");
        let mut client = room.connect("ada").await;
        for (key, key_bytes, bytes, error) in [
            ("a", 1, 1_999_998, json!(null)),
            ("b", 1, 1_999_999, json!(null)),
            ("c", 1, 2_000_000, json!("row-too-large")),
            ("d", 2048, 1_997_952, json!(null)),
            ("e", 2048, 1_997_953, json!("row-too-large")),
        ] {
            let put = Command::PutSized { key: key.into(), key_bytes, bytes };
            assert_eq!(client.ask(put).await["error"], error, "{key_bytes} + {bytes}");
            room.sleep().await;
            let stored = if error.is_null() { json!(bytes) } else { json!(null) };
            assert_eq!(size(&mut client, format!("{key:k<key_bytes$}")).await, stored, "{key}");
        }
        // A row that is refused leaves the one before it.
        let over = Command::PutSized { key: "a".into(), key_bytes: 1, bytes: 2_000_000 };
        client.ask(over).await;
        assert_eq!(size(&mut client, "a".into()).await, 1_999_998);
    }
}

pub(super) async fn calls_take_128_keys(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "call-limit");
        let mut client = room.connect("ada").await;
        for call in [Call::Put, Call::Get, Call::Delete] {
            let stored = if call == Call::Put { 0 } else { 128 };
            let over = client.ask(Command::Many { call, keys: 129 }).await;
            assert_eq!(over["error"], "too-many-keys", "{call:?}");
            assert_eq!(keys(&mut client).await.len(), stored, "nothing is done of it: {call:?}");
            for fits in [0, 127, 128] {
                let answer = client.ask(Command::Many { call, keys: fits }).await;
                assert_eq!(answer["error"], json!(null), "{call:?} of {fits}");
                if call == Call::Get {
                    assert_eq!(answer["found"], fits);
                }
            }
            room.sleep().await;
        }
        assert!(keys(&mut client).await.is_empty());
    }
}

pub(super) async fn handlers_write_32_mib(target: &Target) {
    const ROWS: usize = 16;
    // What is left of the 32 MiB behind 16 rows that are as large as one may be.
    const REST: usize = (32 << 20) - ROWS * 2_000_000;
    let sized =
        |key: String, bytes: usize| Command::PutSized { key, key_bytes: 2, bytes: bytes - 2 };
    let rows = |last: usize| -> Vec<Command> {
        let full = (0..ROWS).map(|n| sized(format!("{n:02}"), 2_000_000));
        full.chain([sized("zz".into(), last)]).collect()
    };
    for mode in Mode::BOTH {
        let room = target.room(mode, "batch-limit");
        for (last, fits) in [(REST - 1, true), (REST, true), (REST + 1, false)] {
            let answers = room.perform(all(rows(last))).await["answers"].clone();
            for answer in &answers.as_array().expect("answers")[..ROWS] {
                assert_eq!(answer["error"], json!(null), "{last}");
            }
            let error = if fits { json!(null) } else { json!("batch-too-large") };
            assert_eq!(answers[ROWS]["error"], error, "{last}");
            let stored = room.perform(Command::Size { key: "zz".into() }).await["bytes"].clone();
            // The row that is refused is as it was.
            assert_eq!(stored, json!(last.min(REST) - 2), "{last}");
        }
        room.perform(Command::DeleteAll).await;
    }
}

pub(super) async fn transactions_can_be_undone(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "transaction");
        let mut client = room.connect("ada").await;
        client.ask(put("a", 1)).await;
        let transaction = |fail, commands| Command::Transaction { commands, fail };
        let commands = vec![
            put("b", 1),
            transaction(true, vec![put("a", 2), put("b", 2), say("undone"), put("c", 2)]),
            transaction(
                false,
                vec![put("d", 1), transaction(true, vec![Command::DeleteAll, say("undone, too")])],
            ),
            say("kept"),
        ];
        client.tell(all(commands)).await;
        assert_eq!(client.next_text().await, "kept");
        let kept: Vec<_> = client.next_json().await["answers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|answer| answer["kept"].as_bool())
            .collect();
        assert_eq!(kept, [false, true]);
        room.sleep().await;
        let rows = client.ask(Command::Rows { prefix: String::new() }).await;
        assert_eq!(rows["rows"], json!([["a", 1], ["b", 1], ["d", 1]]), "in {room:?}");
        client.has_seen_all().await;
    }
}

pub(super) async fn delete_all_leaves_nothing(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "delete-all");
        let mut client = room.connect("ada").await;
        client.ask(Command::Many { call: Call::Put, keys: 128 }).await;
        room.sleep().await;
        client.ask(Command::DeleteAll).await;
        assert!(keys(&mut client).await.is_empty());
        client.ask(Command::Many { call: Call::Put, keys: 3 }).await;
        client.ask(all(vec![put("x", 1), Command::DeleteAll, put("y", 1)])).await;
        assert_eq!(keys(&mut client).await, ["y"]);
        room.sleep().await;
        assert_eq!(keys(&mut client).await, ["y"], "in {room:?}");
    }
}

/// None of its rows, and nothing that it said after the first of them.
pub(super) async fn a_failed_handler_leaves_nothing(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "atomic");
        let mut client = room.connect("ada").await;
        client.ask(put("a", "before")).await;
        let writes = vec![
            say("before the writes"),
            put("a", 1),
            say("after the first"),
            put("b", 1),
            Command::Delete { key: "a".into() },
            put("c", 1),
            say("after the last"),
        ];
        let failing = Command::All { commands: writes.clone(), fail: true };
        let panicking = all([writes, vec![Command::Panic { put: None }]].concat());
        for command in [failing, panicking] {
            client.tell(command).await;
            assert_eq!(client.next_text().await, "before the writes");
            assert_eq!(client.next_json().await["event"], "error");
            let rows = client.ask(Command::Rows { prefix: String::new() }).await;
            assert_eq!(rows["rows"], json!([["a", "before"]]), "in {room:?}");
            room.sleep().await;
        }
        client.has_seen_all().await;
    }
}

pub(super) async fn sync_outlives_a_failure(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "sync");
        let mut client = room.connect("ada").await;
        let commands =
            vec![put("a", 1), say("synced"), Command::Sync, put("b", 1), say("not synced")];
        client.tell(Command::All { commands, fail: true }).await;
        assert_eq!(client.next_text().await, "synced");
        assert_eq!(client.next_json().await["event"], "error");
        room.sleep().await;
        assert_eq!(keys(&mut client).await, ["a"], "in {room:?}");
        client.has_seen_all().await;
    }
}
