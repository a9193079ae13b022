//! What a handler may say, and how it waits for those it says it to.

use partykit_core::{CloseCode, Message, Result, Room, Server, TaskResult, testing::TestRoom};

use crate::script::{NOTHING, Script, Stage, heard, test};

/// A message takes its bytes and 256 more: seven of ten fit.
fn narrow(stage: &Stage) -> TestRoom<Script> {
    stage.builder().options(|options| options.max_held(2000)).build()
}

const SEVEN: &str = "say:0123456789 say:0123456789 say:0123456789 say:0123456789 say:0123456789 \
                     say:0123456789 say:0123456789";

#[test]
fn a_handler_that_says_too_much_fails_and_is_rolled_back() {
    test(async |stage| {
        let room = narrow(&stage);
        let ada = room.connect("ada").await;
        ada.send(SEVEN).await;
        assert_eq!(heard(&ada).len(), 7, "so much is allowed");
        stage.journal();
        let made = stage.made();
        ada.send(format!("put:k=1 {SEVEN} note:before say:x note:not-stopped")).await;
        // It never waits, so it runs to its end; what it did is undone.
        let journal = stage.journal();
        assert_eq!(journal[..2], ["before", "not-stopped"]);
        assert!(journal.contains(&"error on_message SaidTooMuch".to_owned()), "{journal:?}");
        assert_eq!(heard(&ada), NOTHING);
        assert_eq!(room.stored::<String>("k").await, None);
        assert_eq!(stage.made(), made + 1, "the instance is taken");
        assert!(ada.is_open());
        ada.send("say:here").await;
        assert_eq!(heard(&ada), ["here"]);
    });
}

#[test]
fn a_handler_that_waits_is_stopped_there() {
    test(async |stage| {
        let room = narrow(&stage);
        let ada = room.connect("ada").await;
        stage.journal();
        ada.send(format!("put:k=1 {SEVEN} say:x wait:latch note:not-stopped")).await;
        assert!(!stage.open("latch"), "nobody waits there any more");
        let journal = stage.journal();
        assert!(journal.contains(&"error on_message SaidTooMuch".to_owned()), "{journal:?}");
        assert!(!journal.contains(&"not-stopped".to_owned()));
    });
}

/// One byte each: their places count.
#[test]
fn many_small_messages_are_too_much_too() {
    test(async |stage| {
        let room = narrow(&stage);
        let ada = room.connect("ada").await;
        ada.send("say:x ".repeat(7)).await;
        assert_eq!(heard(&ada).len(), 7);
        ada.send("put:k=1 ".to_owned() + &"say:x ".repeat(8)).await;
        assert_eq!(heard(&ada), NOTHING);
    });
}

#[test]
fn a_broadcast_counts_once_for_all() {
    test(async |stage| {
        let room = narrow(&stage);
        let mut clients = Vec::new();
        for n in 0..20 {
            clients.push(room.connect(&n.to_string()).await);
        }
        clients[0].send("all:x ".repeat(7)).await;
        assert!(clients.iter().all(|client| heard(client).len() == 7));
        clients[0].send("put:k=1 ".to_owned() + &"all:x ".repeat(8)).await;
        assert!(clients.iter().all(|client| heard(client).is_empty()));
    });
}

#[test]
fn who_is_told_too_much_while_it_connects_does_not_come_in() {
    test(async |stage| {
        let room = narrow(&stage);
        stage.on("connect", SEVEN);
        let ada = room.connect("ada").await;
        assert_eq!(heard(&ada).len(), 7);
        stage.on("connect", &format!("{SEVEN} say:x"));
        let bob = room.connect("bob").await;
        assert_eq!(bob.closed().map(|close| close.code()), Some(CloseCode::INTERNAL));
        assert_eq!(heard(&bob), NOTHING);
    });
}

#[test]
fn what_was_said_before_an_await_does_not_count() {
    test(async |stage| {
        let room = narrow(&stage);
        let ada = room.connect("ada").await;
        ada.send(format!("{SEVEN} wait:a {SEVEN} wait:b {SEVEN}")).await;
        assert_eq!(heard(&ada).len(), 7);
        stage.open("a");
        room.settle().await;
        assert_eq!(heard(&ada).len(), 7);
        stage.open("b");
        room.settle().await;
        assert_eq!(heard(&ada).len(), 7);
        // Nor does what was held for a commit that has ended.
        ada.send(format!("put:k=1 {SEVEN} sync {SEVEN}")).await;
        assert_eq!(heard(&ada).len(), 14);
    });
}

/// It leaves only with the commit, however often the handler waits.
#[test]
fn what_waits_for_a_commit_counts() {
    test(async |stage| {
        let room = narrow(&stage);
        let ada = room.connect("ada").await;
        stage.journal();
        ada.send(format!("put:k=1 {SEVEN} wait:a say:x")).await;
        stage.open("a");
        room.settle().await;
        assert_eq!(heard(&ada), NOTHING);
        assert!(stage.journal().contains(&"error on_message SaidTooMuch".to_owned()));
    });
}

#[test]
fn a_handler_waits_until_its_client_has_read() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.stop_reading();
        stage.journal();
        ada.send("say:12345 buffered say:678 buffered drained:3 note:read buffered drained:0")
            .await;
        assert_eq!(stage.journal(), ["buffered 5", "buffered 8"]);
        assert_eq!(ada.connection().buffered(), 8);
        ada.read(1).await;
        assert_eq!(stage.journal(), ["read", "buffered 3"]);
        assert!(!room.stats().reasons.is_empty(), "it waits for the rest");
        ada.read(usize::MAX).await;
        assert!(room.stats().reasons.is_empty());
        assert_eq!(heard(&ada), ["12345", "678"]);
    });
}

#[test]
fn nobody_waits_for_a_client_that_is_gone() {
    for by_the_client in [true, false] {
        test(async |stage| {
            let room = stage.room();
            let ada = room.connect("ada").await;
            ada.stop_reading();
            stage.journal();
            if by_the_client {
                ada.send("say:x drained:0 note:over").await;
                assert_eq!(stage.journal(), NOTHING);
                ada.vanish().await;
            } else {
                ada.send("say:x close:4000 drained:0 note:over").await;
            }
            assert_eq!(stage.journal()[0], "over");
        });
    }
}

/// What it says waits for a commit that can only come when it has ended.
#[test]
fn a_handler_does_not_wait_for_itself() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        stage.journal();
        ada.send("put:k=1 say:x drained:0 note:over").await;
        assert_eq!(stage.journal(), ["over"]);
        assert_eq!(heard(&ada), ["x"]);
        stage.on("connect", "say:hello drained:0 note:in");
        let bob = room.connect("bob").await;
        assert_eq!(heard(&bob), ["hello"]);
    });
}

struct Library;

impl Server for Library {
    async fn on_message(
        &mut self,
        room: &Room,
        reader: &partykit_core::Connection,
        _: Message,
    ) -> Result {
        let reader = reader.clone();
        room.spawn("pages", async move {
            for page in 0..10 {
                reader.send(page.to_string());
                reader.drained(1).await;
            }
        });
        Ok(())
    }

    async fn on_task(&mut self, room: &Room, _: TaskResult) -> Result {
        room.broadcast("the end").send();
        Ok(())
    }
}

/// Two messages wait at most, of ten: one that is drained to, and one more.
#[test]
fn a_task_sends_as_fast_as_its_client_reads() {
    futures_executor::block_on(async {
        let room = partykit_core::testing::TestRoomBuilder::new(|_| Library).build();
        let ada = room.connect("ada").await;
        ada.stop_reading();
        ada.send("read to me").await;
        for page in 0..9 {
            assert_eq!(ada.connection().buffered(), 2, "page {page}");
            ada.read(1).await;
            assert_eq!(ada.received(), [Message::from(page.to_string())]);
        }
        ada.read(usize::MAX).await;
        assert_eq!(ada.received(), ["9".into(), "the end".into()]);
    });
}

/// More than 1 MiB waits for ada: what she asks for next is done when she has read, in its order, and
/// nobody else waits for that.
#[test]
fn who_does_not_read_is_not_answered_and_others_are() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        let bob = room.connect("bob").await;
        stage.journal();
        ada.stop_reading();
        ada.push(format!("say:{}", "x".repeat((1 << 20) + 1)));
        ada.push("note:first say:1");
        ada.push("note:second say:2");
        bob.send("note:bob say:hello").await;
        assert_eq!(stage.journal(), ["bob"]);
        assert_eq!(heard(&bob), ["hello"]);
        assert!(!room.stats().reasons.is_empty(), "they are not forgotten");
        ada.read(1).await;
        assert_eq!(stage.journal(), ["first", "second"]);
        ada.read(usize::MAX).await;
        assert_eq!(heard(&ada)[1..], ["1", "2"]);
        assert!(room.stats().reasons.is_empty());
    });
}

#[test]
fn what_somebody_said_who_did_not_read_comes_before_its_end() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        stage.journal();
        ada.stop_reading();
        ada.send(format!("say:{}", "x".repeat((1 << 20) + 1))).await;
        ada.send("note:last").await;
        assert_eq!(stage.journal(), NOTHING);
        ada.vanish().await;
        assert_eq!(stage.journal(), ["last", "close ada 1006 unclean"]);
    });
}

/// A room that sleeps wakes for it, and waits.
#[test]
fn a_sleeping_room_waits_for_its_client_too() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.stop_reading();
        ada.send(format!("say:{}", "x".repeat((1 << 20) + 1))).await;
        room.hibernate().await.unwrap();
        stage.journal();
        ada.send("note:awake").await;
        room.advance(std::time::Duration::from_secs(100)).await;
        assert_eq!(stage.journal(), ["start Wake"]);
        ada.read(usize::MAX).await;
        assert_eq!(stage.journal(), ["awake"]);
    });
}
