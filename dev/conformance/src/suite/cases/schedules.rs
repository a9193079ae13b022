use serde_json::{Value, json};

use crate::{
    Command,
    suite::{Client, Mode, Room, Target},
};

/// Far beyond the end of any case.
const LATER: u64 = 600_000;

fn once(name: &str, within: u64) -> Command {
    Command::Schedule { name: name.into(), within, repeats: false, failures: 0 }
}

fn every(name: &str, within: u64) -> Command {
    Command::Schedule { name: name.into(), within, repeats: true, failures: 0 }
}

/// All schedules of a room.
async fn schedules(room: &Room<'_>) -> Value {
    room.perform(Command::Schedules).await["schedules"].clone()
}

/// The schedule that runs next is this one. Returns when it was to run, and when it did.
async fn runs(client: &mut Client, name: &str, retries: u64) -> (u64, u64) {
    let event = client.next_json().await;
    let told = (event["event"].as_str(), event["name"].as_str(), event["retries"].as_u64());
    assert_eq!(told, (Some("schedule"), Some(name), Some(retries)), "{event}");
    let moment = |field: &str| event[field].as_u64().expect("a moment");
    let (scheduled, now) = (moment("scheduled"), moment("now"));
    assert!(now >= scheduled, "{now} is before its time: {event}");
    (scheduled, now)
}

/// Two schedules and the alarm: none is lost by the others, and the room is woken for each.
pub(super) async fn they_and_the_alarm_ring_in_order(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "schedules-in-order");
        let mut client = room.connect("ada").await;
        let commands = vec![
            once("later", LATER),
            once("last", 900),
            Command::SetAlarm { within: 600 },
            once("first", 300),
        ];
        let set = client.ask(Command::All { commands, fail: false }).await;
        room.sleep().await;
        let (scheduled, _) = runs(&mut client, "first", 0).await;
        assert_eq!(json!(scheduled), set["answers"][3]["at"]);
        room.sleep().await;
        let event = client.next_json().await;
        assert_eq!(
            (&event["event"], &event["scheduled"]),
            (&json!("alarm"), &set["answers"][2]["at"])
        );
        room.sleep().await;
        let (scheduled, _) = runs(&mut client, "last", 0).await;
        assert_eq!(json!(scheduled), set["answers"][1]["at"]);
        assert_eq!(schedules(&room).await, json!([["later", set["answers"][0]["at"]]]));
        assert_eq!(room.perform(Command::Unschedule { name: "later".into() }).await["found"], true);
        assert_eq!(
            room.perform(Command::Unschedule { name: "later".into() }).await["found"],
            false
        );
        client.has_seen_all().await;
    }
}

/// At its distance from the first time; the same again changes nothing.
pub(super) async fn one_that_repeats_goes_on(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "schedules-repeat");
        let mut client = room.connect("ada").await;
        let first = client.ask(every("tick", 1000)).await["at"].as_u64().expect("a moment");
        for _ in 0..2 {
            assert_eq!(client.ask(every("tick", 1000)).await["at"], json!(first));
        }
        let mut due = first;
        for _ in 0..2 {
            room.sleep().await;
            let event = client.next_json().await;
            assert_eq!((&event["event"], &event["scheduled"]), (&json!("schedule"), &json!(due)));
            // What a slow machine misses is counted.
            due += 1000 * (1 + event["missed"].as_u64().expect("a number"));
        }
        client.ask(Command::Unschedule { name: "tick".into() }).await;
        assert_eq!(schedules(&room).await, json!([]));
    }
}

/// Two seconds later, as if its handler had not run.
pub(super) async fn a_failing_one_runs_again(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "schedules-retried");
        let mut client = room.connect("ada").await;
        let name = "bad".to_owned();
        client.ask(Command::Schedule { name, within: 100, repeats: false, failures: 1 }).await;
        let (_, first) = runs(&mut client, "bad", 0).await;
        let error = client.next_json().await;
        assert_eq!((&error["event"], &error["handler"]), (&json!("error"), &json!("on_schedule")));
        room.sleep().await;
        let (_, second) = runs(&mut client, "bad", 1).await;
        assert!(second >= first + 2000, "{second} is no two seconds after {first}");
        assert_eq!(schedules(&room).await, json!([]));
        let half = room.perform(Command::Get { key: "half".into() }).await;
        assert_eq!(half["value"], json!(null));
        client.has_seen_all().await;
    }
}

pub(super) async fn delete_all_deletes_them(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "schedules-deleted");
        let mut client = room.connect("ada").await;
        let commands = vec![once("a", 200), every("b", 1000), Command::DeleteAll, once("c", 400)];
        client.ask(Command::All { commands, fail: false }).await;
        room.sleep().await;
        runs(&mut client, "c", 0).await;
        assert_eq!(schedules(&room).await, json!([]));
        client.has_seen_all().await;
    }
}
