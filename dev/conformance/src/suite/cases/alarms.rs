use serde_json::{Value, json};

use crate::{
    Command,
    suite::{Client, Mode, Room, Target},
};

/// Far beyond the end of any case.
const LATER: i64 = 600_000;

/// Sets the alarm; says when it rings.
async fn set(client: &mut Client, within: i64) -> u64 {
    client.ask(Command::SetAlarm { within }).await["at"].as_u64().expect("a moment")
}

/// When it rings next.
async fn alarm(room: &Room<'_>) -> Value {
    room.perform(Command::Alarm).await["at"].clone()
}

/// The alarm that rings next is this one. Returns when it did.
async fn rings(client: &mut Client, scheduled: u64, retries: u64) -> u64 {
    let event = client.next_json().await;
    assert_eq!(event["event"], "alarm", "{event}");
    let told = (event["scheduled"].as_u64(), event["retries"].as_u64());
    assert_eq!(told, (Some(scheduled), Some(retries)), "{event}");
    let now = event["now"].as_u64().expect("a moment");
    assert!(now >= scheduled, "{now} is before its time: {event}");
    assert_eq!(event["at"], json!(null), "there is none while its handler runs");
    now
}

/// Rings another alarm, behind which none of those before it can be missing.
async fn rings_only(client: &mut Client, within: i64) {
    let at = set(client, within).await;
    rings(client, at, 0).await;
}

fn all(commands: Vec<Command>) -> Command {
    Command::All { commands, fail: false }
}

fn all_and_fail(commands: Vec<Command>) -> Command {
    Command::All { commands, fail: true }
}

fn say(text: &str) -> Command {
    Command::Broadcast { text: text.into(), tag: None, except_me: false }
}

fn put(key: &str) -> Command {
    Command::Put { key: key.into(), value: true.into() }
}

async fn get(room: &Room<'_>, key: &str) -> Value {
    room.perform(Command::Get { key: key.into() }).await["value"].clone()
}

pub(super) async fn rings_once_at_its_time(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "alarm");
        let (mut ada, mut bob) = (room.connect("ada").await, room.connect("bob").await);
        ada.ask(Command::OnAlarm { commands: vec![say("after it")], failures: 0 }).await;
        let at = set(&mut ada, 300).await;
        assert_eq!(alarm(&room).await, json!(at));
        for client in [&mut ada, &mut bob] {
            rings(client, at, 0).await;
            assert_eq!(client.next_text().await, "after it");
        }
        assert_eq!(alarm(&room).await, json!(null));
        rings_only(&mut ada, 300).await;
        let rang = get(&room, "rang").await;
        assert_eq!(rang.as_array().map(Vec::len), Some(2), "{rang} in {room:?}");
    }
}

pub(super) async fn sleepers_are_woken(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "alarm-asleep");
        let mut client = room.connect("ada").await;
        let at = set(&mut client, 1000).await;
        room.sleep().await;
        rings(&mut client, at, 0).await;
        if let (Mode::Hibernating, Some(stats)) = (mode, room.stats().await) {
            assert_eq!(stats.last_wake.as_deref(), Some("alarm"), "{stats:?}");
        }
        assert_eq!(client.ask(Command::Who).await["count"], 1);
    }
}

/// It rings although no connection and no request is there for it.
pub(super) async fn rings_where_nobody_is(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "alarm-nobody");
        let other = target.room(mode, "alarm-elsewhere");
        let at = room.perform(Command::SetAlarm { within: 500 }).await["at"].clone();
        room.sleep().await;
        let mut client = other.connect("ada").await;
        // Nobody asks the first room meanwhile.
        rings_only(&mut client, 1500).await;
        let polling = async {
            loop {
                if let Value::Array(rang) = get(&room, "rang").await {
                    return rang;
                }
            }
        };
        let rang = target.expect("alarm of a room where nobody is", polling).await;
        let told: Vec<_> = rang.iter().map(|rang| (&rang["scheduled"], &rang["retries"])).collect();
        assert_eq!(told, [(&at, &json!(0))], "{room:?}");
        assert!(rang[0]["now"].as_u64() >= at.as_u64(), "{rang:?}");
    }
}

pub(super) async fn it_can_be_replaced(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "alarm-replaced");
        let mut client = room.connect("ada").await;
        set(&mut client, LATER).await;
        rings_only(&mut client, 200).await;
        set(&mut client, 200).await;
        let at = set(&mut client, 700).await;
        assert_eq!(alarm(&room).await, json!(at));
        rings(&mut client, at, 0).await;
        let both = [100, 200].map(|within| Command::SetAlarm { within });
        let answers = client.ask(all(both.into())).await["answers"].clone();
        rings(&mut client, answers[1]["at"].as_u64().expect("a moment"), 0).await;
        assert_eq!(alarm(&room).await, json!(null));
        client.has_seen_all().await;
    }
}

pub(super) async fn it_can_be_deleted(target: &Target) {
    deleted(target, "alarm-deleted", Command::DeleteAlarm).await;
}

pub(super) async fn delete_all_deletes_it(target: &Target) {
    deleted(target, "alarm-delete-all", Command::DeleteAll).await;
}

async fn deleted(target: &Target, case: &str, delete: Command) {
    for mode in Mode::BOTH {
        let room = target.room(mode, case);
        let mut client = room.connect("ada").await;
        client.ask(delete.clone()).await;
        set(&mut client, 300).await;
        client.ask(delete.clone()).await;
        assert_eq!(alarm(&room).await, json!(null));
        rings_only(&mut client, 600).await;
        client.ask(all(vec![Command::SetAlarm { within: 100 }, delete.clone()])).await;
        assert_eq!(alarm(&room).await, json!(null));
        let again = client.ask(all(vec![delete.clone(), Command::SetAlarm { within: 300 }])).await;
        rings(&mut client, again["answers"][1]["at"].as_u64().expect("a moment"), 0).await;
    }
}

pub(super) async fn a_past_one_rings_at_once(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "alarm-past");
        let mut client = room.connect("ada").await;
        rings_only(&mut client, 0).await;
        rings_only(&mut client, -3_600_000).await;
        client.ask(Command::SetAlarmAt { at: 0 }).await;
        rings(&mut client, 0, 0).await;
        room.sleep().await;
        assert_eq!(alarm(&room).await, json!(null));
    }
}

pub(super) async fn one_too_late_is_an_error(target: &Target) {
    const LAST: u64 = 8_640_000_000_000_000;
    for mode in Mode::BOTH {
        let room = target.room(mode, "alarm-late");
        let mut client = room.connect("ada").await;
        let at = set(&mut client, LATER).await;
        for late in [LAST + 1, u64::MAX] {
            let refused = client.ask(Command::SetAlarmAt { at: late }).await;
            assert_eq!(refused["error"], "alarm-too-late", "{late}");
            assert_eq!(alarm(&room).await, json!(at), "{late}");
        }
        for fits in [LAST - 1, LAST] {
            let set = client.ask(Command::SetAlarmAt { at: fits }).await;
            assert_eq!(set["error"], json!(null), "{fits}");
            room.sleep().await;
            assert_eq!(alarm(&room).await, json!(fits));
        }
        client.ask(Command::DeleteAlarm).await;
    }
}

/// It sets none, deletes none, writes none of its rows, and what it said after the first is not heard.
pub(super) async fn a_failed_handler_sets_none(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "alarm-rolled-back");
        let mut client = room.connect("ada").await;
        let at = set(&mut client, LATER).await;
        let keys = ["a", "b", "c"];
        for last in [Command::SetAlarm { within: 0 }, Command::DeleteAlarm, Command::DeleteAll] {
            let mut commands: Vec<_> = keys.map(put).into();
            commands.extend([say("never"), last, say("nor this")]);
            for command in [all_and_fail(commands.clone()), {
                commands.push(Command::Panic { put: None });
                all(commands)
            }] {
                client.tell(command).await;
                assert_eq!(client.next_json().await["event"], "error");
                assert_eq!(alarm(&room).await, json!(at), "{room:?}");
                for key in keys {
                    assert_eq!(get(&room, key).await, json!(null), "{room:?}");
                }
            }
        }
        let undone =
            Command::Transaction { commands: vec![Command::SetAlarm { within: 0 }], fail: true };
        assert_eq!(client.ask(undone).await["kept"], false);
        assert_eq!(alarm(&room).await, json!(at));
        client.has_seen_all().await;
        client.ask(Command::DeleteAlarm).await;
    }
}

/// Two seconds later, as if its handler had not run.
pub(super) async fn a_failing_one_rings_again(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "alarm-retried");
        let mut client = room.connect("ada").await;
        let commands = vec![put("half"), say("after a write")];
        client.ask(Command::OnAlarm { commands, failures: 1 }).await;
        let at = set(&mut client, 100).await;
        let first = rings(&mut client, at, 0).await;
        let error = client.next_json().await;
        assert_eq!((&error["event"], &error["handler"]), (&json!("error"), &json!("on_alarm")));
        assert_eq!(get(&room, "half").await, json!(null), "{room:?}");
        assert_eq!(get(&room, "rang").await, json!(null), "{room:?}");
        let next = alarm(&room).await.as_u64().expect("the retry is the room's alarm");
        assert!(next >= first + 2000, "{next} is no two seconds after {first}");
        room.sleep().await;
        let second = rings(&mut client, at, 1).await;
        assert!(second >= next, "{second} is before {next}");
        assert_eq!(client.next_text().await, "after a write");
        assert_eq!(get(&room, "half").await, json!(true));
        assert_eq!(alarm(&room).await, json!(null));
        rings_only_after(&mut client).await;
    }
}

/// The handler that failed once does not so any more.
async fn rings_only_after(client: &mut Client) {
    client.ask(Command::OnAlarm { commands: Vec::new(), failures: 0 }).await;
    rings_only(client, 100).await;
    client.has_seen_all().await;
}

pub(super) async fn the_new_one_replaces_a_retry(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "alarm-retry-replaced");
        let mut client = room.connect("ada").await;
        client.ask(Command::OnAlarm { commands: Vec::new(), failures: 1 }).await;
        let at = set(&mut client, 0).await;
        rings(&mut client, at, 0).await;
        assert_eq!(client.next_json().await["event"], "error");
        client.ask(Command::OnAlarm { commands: Vec::new(), failures: 0 }).await;
        // Later than the retry would be.
        rings_only(&mut client, 2500).await;
        assert_eq!(alarm(&room).await, json!(null));
        client.has_seen_all().await;
    }
}

pub(super) async fn its_handler_sets_the_next(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "alarm-chain");
        let mut client = room.connect("ada").await;
        let next = vec![Command::SetAlarm { within: 100 }];
        client.ask(Command::OnAlarm { commands: next, failures: 0 }).await;
        let first = set(&mut client, 100).await;
        let mut rang = rings(&mut client, first, 0).await;
        for _ in 0..3 {
            let event = client.next_json().await;
            let scheduled = event["scheduled"].as_u64().expect("a moment");
            assert!(scheduled >= rang + 100, "{scheduled} was set {rang}");
            assert_eq!((&event["event"], &event["retries"]), (&json!("alarm"), &json!(0)));
            rang = event["now"].as_u64().expect("a moment");
            assert!(rang >= scheduled, "{event}");
        }
        room.perform(all(vec![
            Command::OnAlarm { commands: Vec::new(), failures: 0 },
            Command::DeleteAlarm,
        ]))
        .await;
        assert_eq!(alarm(&room).await, json!(null));
    }
}
