//! What a client sends wrongly is its own fault: it gets an answer, and the room goes on as if nothing had
//! been.

use std::time::Duration;

use partykit_core::{Close, CloseCode, testing::TestRoom};

use crate::script::{NOTHING, Script, Stage, heard, test, told, wish};

/// Nothing failed in the room, and so often a client was at fault.
fn counts(room: &TestRoom<Script>, stage: &Stage, rejected: u64) {
    let account = room.stats().account;
    assert_eq!((account.rejected, account.resets), (rejected, 0));
    assert_eq!((stage.made(), stage.dropped()), (1, 0), "the instance stays");
}

#[test]
fn a_message_is_dropped_and_all_it_did_is_undone() {
    test(async |stage| {
        let room = stage.room();
        let (ada, bob) = (room.connect("ada").await, room.connect("bob").await);
        ada.send("put:k=old state:old").await;
        stage.journal();
        let wrong = [
            "json:{",
            "put:k=new json:{",
            "put:k=new all:never reject:no",
            "state:new reject:no",
            "alarm:9 spawn:task=latch tell:x reject:no",
            "clear reject:no",
            "try put:k=new reject:no end reject:no",
            "put:k=new try reject:no end reject:no",
        ];
        for program in wrong {
            ada.send(program).await;
        }
        stage.journal();
        ada.send("get:k state? alarm? seen").await;
        assert_eq!(stage.journal(), ["k=old", "state old", "alarm=none", "seen 10"]);
        assert_eq!((heard(&ada), heard(&bob)), (vec![], vec![]));
        assert!(room.told().is_empty() && !stage.open("latch"));
        assert!(ada.is_open() && bob.is_open());
        counts(&room, &stage, wrong.len() as u64);
    });
}

#[test]
fn what_was_synced_stays() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.send("put:a=1 sync put:b=1 reject:no").await;
        stage.journal();
        ada.send("get:a get:b").await;
        assert_eq!(stage.journal(), ["a=1", "b=none"]);
        counts(&room, &stage, 1);
    });
}

#[test]
fn a_request_gets_the_status_and_the_text() {
    test(async |stage| {
        let room = stage.room();
        let answer = room.request(told("put:k=new reject:taken")).await.unwrap();
        assert_eq!(answer.status(), 409);
        assert_eq!(answer.body().bytes().unwrap(), "taken\n");
        let answer = room.request(told("json:{")).await.unwrap();
        assert_eq!(answer.status(), 400);
        let text = answer.body().bytes().unwrap();
        assert!(text.starts_with(b"the message does not fit: invalid type"), "{text:?}");
        room.tell(told("reject:no")).await.unwrap();
        assert_eq!(room.stored::<String>("k").await, None);
        assert_eq!(stage.journal(), ["start First"]);
        counts(&room, &stage, 3);
    });
}

#[test]
fn a_connect_is_closed_with_the_code_and_was_never_here() {
    test(async |stage| {
        let room = stage.room();
        let bob = room.connect("bob").await;
        let ada = room.connect_with("ada", wish("do=put:k=new+all:in+say:hi+reject:full")).await;
        assert_eq!(ada.closed(), Close::new(CloseCode::from(4409), "full").ok());
        assert_eq!((heard(&ada), room.stored::<String>("k").await), (vec![], None));
        ada.answer_close().await;
        bob.send("who").await;
        let journal = stage.journal();
        assert_eq!(journal.last().unwrap(), "here: bob", "and no on_close: {journal:?}");
        assert!(!journal.iter().any(|line| line.starts_with("close") || line.contains("error")));
        assert_eq!(heard(&bob), NOTHING);
        counts(&room, &stage, 1);
    });
}

#[test]
fn a_close_handler_may_reject_too() {
    test(async |stage| {
        let room = stage.room();
        let (ada, bob) = (room.connect("ada").await, room.connect("bob").await);
        stage.on("close", "put:k=new reject:no");
        ada.close(1000, "").await.unwrap();
        stage.journal();
        bob.send("get:k who").await;
        assert_eq!(stage.journal(), ["k=none", "here: bob"]);
        counts(&room, &stage, 1);
    });
}

/// Where no client is at the other end, it is an error like any other.
#[test]
fn elsewhere_it_is_a_failure() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        stage.on("task", "reject:no");
        ada.send("spawn:task=latch").await;
        stage.open("latch");
        room.settle().await;
        let journal = stage.journal();
        assert_eq!(journal.last().unwrap(), "error on_task Error", "{journal:?}");

        stage.on("alarm", "put:k=new reject:no");
        ada.send("alarm:1").await;
        room.advance(Duration::from_secs(1)).await;
        let journal = stage.journal();
        assert!(journal.contains(&"error on_alarm Error".to_owned()), "{journal:?}");
        assert_eq!(room.stats().account.rejected, 0);

        let room = stage.room();
        stage.on("start", "reject:no");
        assert_eq!(room.request(told("")).await.unwrap_err().status(), 500);
    });
}

#[test]
fn a_thousand_wrong_messages_harm_nobody() {
    test(async |stage| {
        let room = stage.room();
        let (ada, bob) = (room.connect("ada").await, room.connect("bob").await);
        stage.journal();
        for _ in 0..1000 {
            ada.send("put:k=new all:never json:{").await;
        }
        assert_eq!(stage.journal(), NOTHING, "no on_error, no new instance");
        bob.send("all:well seen").await;
        assert_eq!((heard(&ada), heard(&bob)), (vec!["well".into()], vec!["well".into()]));
        assert_eq!(stage.journal(), ["seen 1001"]);
        counts(&room, &stage, 1000);
    });
}
