use serde_json::json;

use crate::{
    Command,
    suite::{Mode, Room, Target},
};

fn call(room: &Room<'_>, command: Command) -> Command {
    let (party, id) = (room.party().to_owned(), room.id().to_owned());
    Command::Call { party, room: id, command: Box::new(command), put: None }
}

fn two<'a>(target: &'a Target, mode: Mode, case: &str) -> (Room<'a>, Room<'a>) {
    (target.room(mode, case), target.room(mode, &format!("{case}-other")))
}

pub(super) async fn a_call_is_answered(target: &Target) {
    for mode in Mode::BOTH {
        let (room, other) = two(target, mode, "call");
        // Somebody is there, so that the other room stays in memory.
        let (mut client, _bob) = (room.connect("ada").await, other.connect("bob").await);
        let answer = client.ask(call(&other, Command::Who)).await;
        assert_eq!(answer["answer"]["room"], other.id());
        let by_request = room.perform(call(&other, Command::Who)).await;
        assert_eq!(by_request, answer);
        assert_eq!(answer["answer"]["instance"], other.instance().await);
    }
}

pub(super) async fn a_tell_arrives(target: &Target) {
    for mode in Mode::BOTH {
        let (room, other) = two(target, mode, "tell");
        let (mut ada, mut bob) = (room.connect("ada").await, other.connect("bob").await);
        for n in 0..20 {
            let news = Command::Broadcast { text: n.to_string(), tag: None, except_me: false };
            let (party, id) = (other.party().to_owned(), other.id().to_owned());
            let tell = Command::Tell { party, room: id, command: Box::new(news) };
            assert_eq!(ada.ask(tell).await["re"], "tell");
        }
        for n in 0..20 {
            assert_eq!(bob.next_text().await, n.to_string(), "in order");
        }
    }
}

pub(super) async fn a_cycle_is_refused(target: &Target) {
    for mode in Mode::BOTH {
        let (room, other) = two(target, mode, "cycle");
        let itself = room.perform(call(&room, Command::Who)).await;
        assert_eq!(itself["error"], "cycle");
        let there_and_back = room.perform(call(&other, call(&room, Command::Who))).await;
        assert_eq!(there_and_back["answer"]["error"], "cycle");
        let mut client = room.connect("ada").await;
        let by_message = client.ask(call(&other, call(&room, Command::Who))).await;
        assert_eq!(by_message["answer"]["error"], "cycle");
        let twice = client.ask(call(&other, Command::Who)).await;
        assert_eq!(twice["answer"]["room"], other.id(), "nothing is locked afterwards");
    }
}

pub(super) async fn after_a_write_is_refused(target: &Target) {
    let (room, other) = two(target, Mode::Hibernating, "call-after-write");
    let mut client = room.connect("ada").await;
    let Command::Call { party, room: id, command, .. } = call(&other, Command::Who) else {
        unreachable!("it is a call")
    };
    let put = Some("written".to_owned());
    let answer = client.ask(Command::Call { party, room: id, command, put }).await;
    assert_eq!(answer["error"], "uncommitted-writes");
    assert_eq!(client.ask(Command::Get { key: "written".into() }).await["value"], true);
    let answer = client.ask(call(&other, Command::Who)).await;
    assert_eq!(answer["answer"]["room"], other.id(), "the write is durable by now");
}

pub(super) async fn nobody_there_is_told(target: &Target) {
    let room = target.room(Mode::Hibernating, "call-nobody");
    for (party, id, error) in
        [("no-such-party", "a", "unknown-party"), ("probe", "", "invalid-room")]
    {
        let (party, id) = (party.to_owned(), id.to_owned());
        // The probe writes the address into the request, which has to be one.
        let command = Command::Call { party, room: id, command: Box::new(Command::Who), put: None };
        assert_eq!(room.perform(command).await["error"], error);
    }
}

pub(super) async fn failures_are_told(target: &Target) {
    for mode in Mode::BOTH {
        let (room, other) = two(target, mode, "call-failing");
        for command in [Command::Fail { put: None }, Command::Panic { put: Some("a".into()) }] {
            let answer = room.perform(call(&other, command)).await;
            assert_eq!(answer, json!({ "re": "call", "error": "refused" }));
        }
        let answer = room.perform(call(&other, Command::Get { key: "a".into() })).await;
        assert_eq!(answer["answer"]["value"], json!(null));
    }
}

pub(super) async fn sleepers_are_woken(target: &Target) {
    let (room, other) = two(target, Mode::Hibernating, "call-asleep");
    let (mut ada, _bob) = (room.connect("ada").await, other.connect("bob").await);
    room.sleep().await;
    other.sleep().await;
    let answer = ada.ask(call(&other, Command::Who)).await;
    assert_eq!(
        (&answer["answer"]["reason"], &answer["answer"]["count"]),
        (&json!("Wake"), &json!(1))
    );
    if let Some(view) = other.stats().await {
        assert_eq!(view.last_wake.as_deref(), Some("request"));
    }
}

/// A room goes on in its own context, also when another room wakes it. On Workers, it could not use its
/// storage and sockets anywhere else.
pub(super) async fn one_wakes_another_by_a_channel(target: &Target) {
    for mode in Mode::BOTH {
        let (room, other) = two(target, mode, "signal");
        let signal = format!("signal-{}", room.id());
        let (mut ada, mut bob) = (room.connect("ada").await, other.connect("bob").await);
        for _ in 0..3 {
            ada.tell(Command::Await { signal: signal.clone() }).await;
            let heard = async {
                while bob.ask(Command::Signal { signal: signal.clone() }).await["heard"] != true {}
            };
            target.expect("somebody who waits", heard).await;
            assert_eq!(ada.next_json().await["re"], "await");
            let stored = ada.ask(Command::Get { key: signal.clone() }).await;
            assert_eq!(stored["value"], true);
            assert_eq!(ada.ask(Command::Delete { key: signal.clone() }).await["re"], "delete");
        }
    }
}
