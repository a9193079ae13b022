//! A client that comes in gets everything in order, or learns that it is not in.

use std::time::Duration;

use partykit_core::{CloseCode, Refusal, Request, testing::NotConnected};

use crate::script::{NOTHING, heard, inside, test, wish};

const LIMIT: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(1);

#[test]
fn a_new_connection_is_listed_and_hears_its_own_frames_after_the_handshake() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        stage.journal();
        stage.on("connect", "say:1 all:2 others:hello say:3 who wait:connect say:4");
        let bob = room.connect("bob").await;
        assert!(!bob.is_answered());
        assert_eq!(heard(&bob), NOTHING, "nothing before the handshake's answer");
        assert_eq!(heard(&ada), ["2", "hello"], "others need not wait for it");
        room.broadcast("from outside").await;
        assert_eq!(heard(&bob), NOTHING);

        assert!(stage.open("connect"));
        room.settle().await;
        assert!(bob.is_open());
        assert_eq!(heard(&bob), ["1", "2", "3", "from outside", "4"]);
        assert_eq!(stage.journal(), ["connect bob", "here: ada,bob"]);
    });
}

#[test]
fn a_connect_that_fails_was_never_here() {
    for failure in
        ["fail", "panic", "say:hi fail", "put:k=1 say:hi fail", "state:x panic", "close:4000 fail"]
    {
        test(async |stage| {
            let room = stage.room();
            let ada = room.connect("ada").await;
            let failed =
                room.connect_with("eve", wish(&format!("do={}", failure.replace(' ', "+")))).await;
            let close = failed.closed().expect("a Close");
            assert_eq!(close.code(), CloseCode::INTERNAL, "{failure}");
            let id = close.reason().strip_prefix("error ").expect("an error id");
            assert!(id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{close}");
            assert_eq!(heard(&failed), NOTHING, "{failure}");

            failed.answer_close().await;
            assert_eq!(room.stats().connections, 1);
            assert!(room.rows(partykit_core::List::new()).await.is_empty());
            stage.journal();
            ada.send("who all:x").await;
            assert_eq!(stage.journal(), ["here: ada"], "{failure}");
            assert_eq!(heard(&failed), NOTHING, "{failure}");
            assert!(!stage.journal().iter().any(|line| line.starts_with("close")));
        });
    }
}

#[test]
fn a_connect_has_ten_seconds_with_on_start_included() {
    test(async |stage| {
        let room = stage.room();
        stage.on("start", "wait:start");
        stage.on("connect", "wait:connect");
        let ada = room.connect("ada").await;
        room.advance(Duration::from_secs(6)).await;
        assert!(stage.open("start"));
        room.advance(Duration::from_secs(4) - MOMENT).await;
        assert!(!ada.is_answered());
        assert_eq!(stage.journal(), ["start First", "connect ada"]);

        stage.on("start", "");
        room.advance(MOMENT).await;
        assert_eq!(ada.closed().unwrap().code(), CloseCode::INTERNAL);
        assert_eq!(stage.journal(), ["start First", "error on_connect Timeout"]);
        assert_eq!(room.stats().account.resets, 1);
    });
}

#[test]
fn an_on_start_that_uses_up_a_connects_time_fails_it() {
    test(async |stage| {
        let room = stage.room();
        stage.on("start", "stuck");
        let ada = room.connect("ada").await;
        room.advance(LIMIT - MOMENT).await;
        assert!(!ada.is_answered());
        room.advance(MOMENT).await;
        assert_eq!(ada.closed().unwrap().code(), CloseCode::INTERNAL);
        stage.on("start", "");
        assert!(room.connect("bob").await.is_open());
    });
}

#[test]
fn a_connect_that_waited_behind_others_has_less_time() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.send("wait:message").await;
        stage.on("connect", "wait:connect");
        let bob = room.connect("bob").await;
        room.advance(Duration::from_secs(9)).await;
        assert!(stage.open("message"));
        room.advance(Duration::from_secs(1)).await;
        assert_eq!(bob.closed().unwrap().code(), CloseCode::INTERNAL);
    });
}

#[test]
fn a_client_that_goes_while_its_on_connect_runs_is_told_off_once() {
    test(async |stage| {
        let room = stage.room();
        stage.on("connect", "wait:connect who say:hello all:hello");
        let ada = room.connect("ada").await;
        ada.vanish().await;
        assert_eq!(room.stats().connections, 0, "not listed from that moment");
        stage.journal();
        assert!(stage.open("connect"));
        room.settle().await;
        assert_eq!(stage.journal(), ["here: ", "close ada 1006 unclean"]);
        assert_eq!(heard(&ada), NOTHING);
        room.advance(LIMIT).await;
        assert_eq!(stage.journal(), NOTHING);
    });
}

#[test]
fn a_client_that_goes_while_its_on_connect_fails_was_never_here() {
    test(async |stage| {
        let room = stage.room();
        stage.on("connect", "wait:connect fail");
        let ada = room.connect("ada").await;
        ada.vanish().await;
        stage.journal();
        assert!(stage.open("connect"));
        room.settle().await;
        assert_eq!(stage.journal(), ["error on_connect Error"]);
        assert_eq!(room.stats().connections, 0);
    });
}

#[test]
fn a_client_that_goes_while_it_waits_for_its_turn_is_not_mentioned() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.send("wait:message").await;
        stage.journal();
        let bob = room.connect("bob").await;
        bob.vanish().await;
        assert!(stage.open("message"));
        room.settle().await;
        ada.send("who").await;
        assert_eq!(stage.journal(), ["here: ada"]);
    });
}

#[test]
fn a_client_that_goes_before_its_connects_commit_fails_leaves_no_trace() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        stage.on("close", "put:closed=bob all:bob-is-gone");
        store.hold_commits();
        store.fail_next_commit();
        let bob = room.connect_with("bob", wish("do=put:connected=bob")).await;
        bob.vanish().await;
        store.release_commits();
        room.settle().await;
        assert!(room.rows(partykit_core::List::new()).await.is_empty());
        assert_eq!(heard(&ada), NOTHING);
        room.advance(LIMIT).await;
        let closes = stage.journal().into_iter().filter(|line| line.starts_with("close")).count();
        assert!(closes <= 1);
    });
}

#[test]
fn on_connect_may_close_what_it_lets_in() {
    test(async |stage| {
        let room = stage.room();
        stage.on("connect", "say:hello close:4001 say:lost who");
        let ada = room.connect("ada").await;
        assert!(ada.is_answered());
        assert_eq!(heard(&ada), ["hello"]);
        let close = ada.closed().unwrap();
        assert_eq!((close.code(), close.reason()), (CloseCode::from(4001), "bye"));
        assert_eq!(stage.journal(), ["start First", "connect ada", "here: "]);
        ada.answer_close().await;
        assert_eq!(stage.journal(), ["close ada 4001 clean"]);
    });
}

#[test]
fn a_transaction_that_fails_in_on_connect_takes_back_only_what_the_handler_said_in_it() {
    test(async |stage| {
        let room = stage.room();
        stage.on("connect", "lend try put:k=1 say:lost wait:end fail end say:kept");
        let ada = room.connect("ada").await;
        stage.lent()[0].send("from outside");
        assert!(stage.open("end"));
        room.settle().await;
        assert_eq!(heard(&ada), ["from outside", "kept"]);
    });
}

#[test]
fn two_connections_may_have_one_id() {
    test(async |stage| {
        let room = stage.room();
        let old = room.connect("ada").await;
        let new = room.connect("ada").await;
        assert!(old.is_open() && new.is_open());
        assert_ne!(old.connection(), new.connection());
        let found = inside(&room, |room| Box::pin(async { room.connection("ada") })).await;
        assert_eq!(found.as_ref(), Some(new.connection()), "the newest");
        let tagged = inside(&room, |room| Box::pin(async { room.tagged("ada").len() })).await;
        assert_eq!(tagged, 2);

        old.send("others:x").await;
        assert_eq!((heard(&old), heard(&new)), (vec![], vec!["x".to_owned()]), "except: by socket");

        new.vanish().await;
        let found = inside(&room, |room| Box::pin(async { room.connection("ada") })).await;
        assert_eq!(found.as_ref(), Some(old.connection()));
        old.vanish().await;
        let found = inside(&room, |room| Box::pin(async { room.connection("ada") })).await;
        assert_eq!(found, None);
    });
}

#[test]
fn a_full_room_refuses_and_takes_the_next_when_somebody_goes() {
    test(async |stage| {
        let room = stage.builder().options(|options| options.max_connections(2)).build();
        let ada = room.connect("ada").await;
        let bob = room.connect("bob").await;
        let refused = room.try_connect("eve", Request::default()).await;
        assert!(matches!(refused, Err(NotConnected::Refused(Refusal::Full))));
        assert_eq!(Refusal::Full.response().status(), 503);

        // One that the server has closed counts until it is gone.
        bob.send("close:4000").await;
        assert!(room.try_connect("eve", Request::default()).await.is_err());
        bob.answer_close().await;
        assert!(room.connect("eve").await.is_open());
        assert!(ada.is_open());
    });
}

#[test]
fn a_failed_connect_leaves_its_place_to_others() {
    test(async |stage| {
        let room = stage.builder().options(|options| options.max_connections(1)).build();
        for _ in 0..3 {
            let failed = room.connect_with("eve", wish("do=fail")).await;
            assert!(failed.closed().is_some());
        }
        assert!(room.connect("ada").await.is_open());
    });
}

#[test]
fn tags_have_limits() {
    let nine = "1,2,3,4,5,6,7,8,9";
    let (long, longer) = ("x".repeat(256), "x".repeat(257));
    let allowed = [
        (nine.to_owned(), 10),
        (format!("{nine},ada"), 10),
        (format!("{nine},9,9,ada,ada"), 10),
        (long, 2),
        ("ada".to_owned(), 1),
        ("é,é".to_owned().replace('é', "%C3%A9"), 2),
    ];
    let refused = [format!("{nine},10"), longer, "a,,b".to_owned(), String::new()];
    test(async |stage| {
        let room = stage.room();
        for (tags, count) in allowed {
            let ada = room.connect_with("ada", wish(&format!("tags={tags}"))).await;
            assert!(ada.is_open(), "{tags}");
            assert_eq!(ada.connection().tags().len(), count, "{tags}");
            assert_eq!(ada.connection().tags().next(), Some("ada"));
        }
        for tags in refused {
            let ada = room.connect_with("ada", wish(&format!("tags={tags}"))).await;
            assert_eq!(ada.closed().map(|close| close.code()), Some(CloseCode::INTERNAL), "{tags}");
        }
    });
}

/// Clients choose how long an address is: it takes no space that the state needs.
#[test]
fn a_long_uri_is_kept_in_part_and_given_to_on_connect_whole() {
    test(async |stage| {
        let room = stage.room();
        let tag = "t".repeat(200);
        let filler = "x".repeat(16_000);
        let ada = room.connect_with("ada", wish(&format!("tags={tag}&x={filler}"))).await;
        assert!(ada.is_open());
        assert_eq!(ada.connection().tags().nth(1), Some(&*tag));
        let uri = ada.connection().uri();
        assert!(uri.len() <= 1024 && uri.ends_with(&tag), "{uri}");
        let fixed = uri.len() + "ada".len() + tag.len();
        assert!(ada.connection().set_state(&"s".repeat(16_320 - fixed - 2)).is_ok());
        assert!(ada.connection().set_state(&"s".repeat(16_320 - fixed - 1)).is_err());
    });
}

/// With the longest addresses and ids that get here, a room takes all that it may and each has a state.
/// (With whole addresses in it, it would be full after 4,000.)
#[test]
fn long_uris_do_not_fill_a_room() {
    test(async |stage| {
        let room = stage.room();
        let filler = "x".repeat(15_000);
        let first = room.connect("first").await;
        for n in 0..5_000 {
            let id = format!("{n:0>256}");
            let client = room.connect_with(&id, wish(&format!("x={filler}"))).await;
            assert!(client.is_open(), "{n}");
        }
        assert!(first.connection().set_state("still").is_ok());
    });
}
