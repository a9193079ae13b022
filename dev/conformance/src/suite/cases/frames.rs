use crate::{
    AUTO_REQUEST, AUTO_RESPONSE, Command,
    suite::{Frame, Mode, Target},
};

pub(super) async fn text_stays_text_and_binary_binary(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "kinds");
        let mut client = room.connect("ada").await;
        for text in ["", "a", "Grüße, 世界 🎉", " {\"do\":\"who\"}"] {
            client.say(text).await;
            assert_eq!(client.next().await, Frame::Text(text.into()));
            room.sleep().await;
        }
        for bytes in [&b""[..], b"text", &[0xff, 0, 0xfe], &(0..=255).collect::<Vec<u8>>()] {
            client.say_bytes(bytes).await;
            assert_eq!(client.next().await, Frame::Binary(bytes.into()));
            room.sleep().await;
        }
    }
}

pub(super) async fn up_to_1_mib(target: &Target) {
    const MIB: usize = 1 << 20;
    let room = target.room(Mode::Hibernating, "one-mib");
    let mut client = room.connect("ada").await;
    for len in [125, 126, 65_535, 65_536, MIB - 1, MIB] {
        let text = "x".repeat(len);
        client.say(&*text).await;
        assert!(client.next().await == Frame::Text(text), "{len} bytes");
    }
    client.say_bytes(vec![7; MIB + 1]).await;
    let (code, _) = client.next_close().await.expect("a code");
    assert_eq!(code, 1009);
    assert_eq!(room.perform(Command::Who).await["room"], room.id(), "the room lives");
}

pub(super) async fn many_frames_keep_their_order(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "order");
        let mut client = room.connect("ada").await;
        client.tell(Command::Frames { frames: 1000, bytes: 0 }).await;
        for n in 0..1000 {
            assert_eq!(client.next_text().await, n.to_string());
        }
        for n in 0..1000 {
            client.say(n.to_string()).await;
        }
        for n in 0..1000 {
            assert_eq!(client.next_text().await, n.to_string());
        }
        client.has_seen_all().await;
    }
}

/// A client that reads gets all that one handler says to it, once and in order.
pub(super) async fn a_burst_arrives_whole(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "burst");
        let mut client = room.connect("ada").await;
        for (frames, bytes) in [(2000, 1000), (20, 100_000), (8, 1_000_000)] {
            client.tell(Command::Frames { frames, bytes }).await;
            for n in 0..frames {
                assert!(
                    client.next_text().await == Command::frame(n, bytes),
                    "{n} of {bytes} bytes"
                );
            }
        }
        client.has_seen_all().await;
    }
}

/// The same with as little in each frame as there can be, and to several clients.
pub(super) async fn small_frames_arrive_whole(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "small-frames");
        let mut ada = room.connect("ada").await;
        let mut bob = room.connect("bob").await;
        ada.tell(Command::Frames { frames: 10_000, bytes: 0 }).await;
        bob.tell(Command::Frames { frames: 10_000, bytes: 0 }).await;
        for client in [&mut bob, &mut ada] {
            for n in 0..10_000 {
                assert_eq!(client.next_text().await, n.to_string());
            }
            client.has_seen_all().await;
        }
    }
}

pub(super) async fn order_survives_sleep(target: &Target) {
    let room = target.room(Mode::Hibernating, "order-and-sleep");
    let mut client = room.connect("ada").await;
    for n in 0..1000 {
        client.say(n.to_string()).await;
        if n % 50 == 0 {
            // Some echoes are on their way, some messages not even read.
            room.sleep().await;
        }
    }
    for n in 0..1000 {
        assert_eq!(client.next_text().await, n.to_string());
    }
    client.has_seen_all().await;
}

pub(super) async fn one_handler_after_another(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "one-by-one");
        let mut client = room.connect("ada").await;
        client.tell(Command::Slow { yields: 200 }).await;
        client.say("after").await;
        assert_eq!(client.next_json().await["re"], "slow");
        assert_eq!(client.next_text().await, "after");
    }
}

pub(super) async fn pings_are_answered(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "ping");
        let mut client = room.connect("ada").await;
        for payload in [&b""[..], b"hello", &[9; 125]] {
            client.ping(payload).await;
            assert_eq!(client.next().await, Frame::Pong(payload.into()));
            room.sleep().await;
        }
        client.has_seen_all().await;
    }
}

pub(super) async fn auto_response_passes_the_room_by(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "auto-response");
        let mut client = room.connect("ada").await;
        client.say(AUTO_REQUEST).await;
        assert_eq!(client.next_text().await, AUTO_RESPONSE);
        for other in [format!("{AUTO_REQUEST} "), AUTO_REQUEST.to_uppercase()] {
            client.say(&*other).await;
            assert_eq!(client.next_text().await, other, "only the exact text");
        }
        client.say_bytes(AUTO_REQUEST).await;
        assert_eq!(client.next().await, Frame::Binary(AUTO_REQUEST.into()), "only text");
    }
}
