use serde_json::json;

use crate::{
    Command,
    suite::{Mode, Target},
};

pub(super) async fn storage_survives(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "storage");
        let mut client = room.connect("ada").await;
        for (key, value) in [
            ("b:2", json!([1, "two"])),
            ("b:1", json!(null)),
            ("a", json!({ "x": 1.5 })),
            ("c", json!("é")),
        ] {
            client.ask(Command::Put { key: key.into(), value }).await;
            room.sleep().await;
        }
        let rows = client.ask(Command::Rows { prefix: String::new() }).await;
        let all = json!([["a", { "x": 1.5 }], ["b:1", null], ["b:2", [1, "two"]], ["c", "é"]]);
        assert_eq!(rows["rows"], all);
        client.ask(Command::Delete { key: "b:2".into() }).await;
        room.sleep().await;
        let rows = client.ask(Command::Rows { prefix: "b:".into() }).await;
        assert_eq!(rows["rows"], json!([["b:1", null]]));
        assert_eq!(client.ask(Command::Get { key: "c".into() }).await["value"], "é");
        assert_eq!(client.ask(Command::Get { key: "b:2".into() }).await["value"], json!(null));
    }
}

/// A task keeps its room awake, and comes back to the instance that started it.
pub(super) async fn tasks_come_back(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "task");
        let mut client = room.connect("ada").await;
        let instance = room.instance().await;
        assert_eq!(client.ask(Command::Spawn { value: "done".into() }).await["re"], "spawn");
        assert_eq!(client.next_json().await, json!({ "event": "task", "value": "done" }));
        assert_eq!(room.instance().await, instance);
    }
}

/// A handler that waits goes on by the room's clock; so does a task beside it.
pub(super) async fn waiting_takes_its_time(target: &Target) {
    const MILLIS: u64 = 60;
    // Both clocks are read in whole milliseconds.
    let is_long_enough = |waited: Option<u64>| waited.is_some_and(|waited| waited + 2 >= MILLIS);
    for mode in Mode::BOTH {
        let room = target.room(mode, "waiting");
        let mut client = room.connect("ada").await;
        let answer = client.ask(Command::Pause { millis: MILLIS }).await;
        assert!(is_long_enough(answer["waited"].as_u64()), "{answer}");
        assert_eq!(client.ask(Command::Pause { millis: 0 }).await["re"], "pause");
        let started = client.ask(Command::PauseBeside { millis: MILLIS }).await;
        assert_eq!(started["re"], "pause-beside");
        let event = client.next_json().await;
        let waited = event["value"].as_str().and_then(|waited| waited.parse().ok());
        assert!(event["event"] == "task" && is_long_enough(waited), "{event}");
    }
}
