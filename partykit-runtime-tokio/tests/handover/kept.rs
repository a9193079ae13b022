//! What clients keep.

use std::{io::Write, sync::mpsc, thread};

use crate::house::{Client, Site, chat, fragment, frame};

#[test]
fn clients_that_talk_notice_no_hand_over() {
    let mut site = Site::start("");
    let talkers: Vec<_> = (0..40)
        .map(|n| {
            let client = site.connect(&format!("room{}", n % 10), &format!("client{n}"));
            let (stop, until) = mpsc::channel::<()>();
            (stop, thread::spawn(move || chat(client, &until)))
        })
        .collect();
    for _ in 0..5 {
        site.replace();
    }
    let (stops, talks): (Vec<_>, Vec<_>) = talkers.into_iter().unzip();
    drop(stops);
    let said: u64 = talks.into_iter().map(|talk| talk.join().unwrap()).sum();
    let stored: u64 = (0..10)
        .map(|n| {
            let mut client = site.connect(&format!("room{n}"), "reader");
            client.say("stored");
            client.text().parse::<u64>().unwrap()
        })
        .sum();
    assert_eq!(stored, said, "each message was handled once");
    assert_eq!(site.first_ended(), Some(0));
}

#[test]
fn a_connection_is_the_same_afterwards() {
    let mut site = Site::start("");
    let (mut ada, mut bob) = (site.connect("a", "ada"), site.connect("a", "bob"));
    ada.say("who");
    assert_eq!(ada.text(), r#"ada Some("ada") of 2, Some(First)"#);
    site.replace();
    bob.say("who");
    assert_eq!(bob.text(), r#"bob Some("bob") of 2, Some(Wake)"#);
    let mut eve = site.connect("a", "eve");
    eve.say("who");
    assert_eq!(eve.text(), r#"eve Some("eve") of 3, Some(Wake)"#);
    // The room hears of an end.
    ada.0.write_all(&fragment(0x88, &[0x0F, 0xA1])).unwrap();
    assert_eq!(ada.hear(), (0x88, vec![0x0F, 0xA1]));
    bob.say("after");
    assert_eq!(bob.text(), "after");
    let answer = site.ask("a");
    assert_eq!(answer, format!("{} ada 4001", site.process));
}

#[test]
fn half_a_message_arrives_whole_wherever_it_is_cut() {
    let text = "é".repeat(97);
    let whole = frame(&text);
    let parts = [
        fragment(0x01, &text.as_bytes()[..51]),
        fragment(0x89, b"ping"),
        fragment(0x80, &text.as_bytes()[51..]),
    ]
    .concat();
    let mut site = Site::start("");
    let cuts = |stream: &[u8], room: &str| -> Vec<(Client, Vec<u8>)> {
        (0..=stream.len())
            .map(|cut| {
                let mut client = site.connect(room, &format!("{room}{cut}"));
                client.0.write_all(&stream[..cut]).unwrap();
                (client, stream[cut..].to_vec())
            })
            .collect()
    };
    let wholes = cuts(&whole, "whole");
    let fragments = cuts(&parts, "fragments");
    site.replace();
    for (mut client, rest) in wholes {
        client.0.write_all(&rest).unwrap();
        assert_eq!(client.text(), text);
    }
    for (mut client, rest) in fragments {
        client.0.write_all(&rest).unwrap();
        assert_eq!(client.hear(), (0x8A, b"ping".to_vec()));
        assert_eq!(client.text(), text);
    }
}

#[test]
fn what_waits_for_a_slow_reader_arrives_in_order() {
    let mut site = Site::start("");
    let mut slow = site.connect("slow", "slow");
    slow.say("much");
    // It has begun.
    assert!(slow.text().starts_with("00000 "));
    slow.say("later");
    site.replace();
    for n in 1..1000 {
        assert!(slow.text().starts_with(&format!("{n:05} ")));
    }
    site.replace();
    for n in 1000..2000 {
        assert!(slow.text().starts_with(&format!("{n:05} ")));
    }
    assert_eq!(slow.text(), "later");
}

#[test]
fn a_close_on_its_way_is_not_lost() {
    let mut site = Site::start("");
    let (mut client, mut other) = (site.connect("a", "ada"), site.connect("a", "bob"));
    client.say("bye");
    let (first, close) = client.hear();
    assert_eq!((first, &close[..2]), (0x88, &[0x0F, 0xA0][..]));
    site.replace();
    other.say("who");
    let who = other.text();
    assert!(who.contains("bob") && who.contains(" of 1,"), "the room knows of it: {who}");
    client.0.write_all(&fragment(0x88, &close[..2])).unwrap();
    assert_eq!(std::io::Read::read(&mut client.0, &mut [0]).unwrap(), 0, "the server hangs up");
    assert_eq!(site.ask("a"), format!("{} ada 4000", site.process));
}

/// Each socket on its way has a descriptor more, and the old process must not need as many again.
#[test]
fn a_process_with_few_descriptors_left_keeps_all_clients() {
    let mut site = Site::start("few descriptors");
    let mut clients: Vec<_> = (0..200).map(|n| site.connect("a", &format!("{n}"))).collect();
    site.replace();
    for client in &mut clients {
        client.say("here");
        assert_eq!(client.text(), "here");
    }
}

/// The first process has no alarm to park, and the next one opens the store late.
#[test]
fn alarms_that_the_next_process_has_to_park_are_parked() {
    let mut site = Site::start("parks");
    let mut client = site.connect("reminded", "ada");
    client.say("remind");
    assert_eq!(client.text(), "soon");
    site.replace();
    site.has_said("parked the alarm of this room");
    client.say("after");
    assert_eq!(client.text(), "after");
}

/// Rooms and rows are those of the process before until this one serves. Who asks too early is told so, and
/// nothing is made that would be in the way.
#[test]
fn before_it_serves_the_next_process_has_no_rooms_and_no_rows() {
    let mut site = Site::start("asks early");
    let mut client = site.connect("a", "ada");
    client.say("one");
    assert_eq!(client.text(), "one");
    site.replace();
    let early = site.log.iter().find(|line| line.contains("early: ")).unwrap();
    assert!(early.contains("the process before has the store until this one serves"), "{early}");
    assert!(early.contains("ShuttingDown"), "{early}");
    client.say("stored");
    assert_eq!(client.text(), "1");
}
