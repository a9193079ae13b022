//! Processes that connect to the socket of the hand-over by themselves.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::mpsc,
    thread,
};

use crate::house::{NEVER, Site, chat};

#[test]
fn a_process_that_was_started_by_hand_takes_over() {
    let mut site = Site::start("");
    let client = site.connect("a", "ada");
    let (stop, until) = mpsc::channel::<()>();
    let talking = thread::spawn(move || chat(client, &until));
    site.replace_by_hand();
    assert_eq!(site.first_ended(), Some(0));
    // Each has a socket of its own, and the variable harms no process that is started in another way.
    site.replace_by_hand();
    site.replace();
    site.replace_by_hand();
    drop(stop);
    let said = talking.join().unwrap();
    let mut reader = site.connect("a", "reader");
    reader.say("stored");
    assert_eq!(reader.text(), said.to_string());
}

#[test]
fn what_is_no_next_process_is_refused() {
    let mut site = Site::start("");
    let mut ada = site.connect("a", "ada");
    let message = |body: &[u8]| [&[body.len() as u8, 0, 0, 0, 0, 0], body].concat();
    let words: [(&[u8], &str); 6] = [
        (&[0xFF; 6], "a message of 4294967295 bytes"),
        (b"GET / HTTP/1.1\r\n\r\n", "a message of"),
        (&message(b"who is there"), "it does not speak this protocol"),
        (&message(b"partykit hand-over \x02\x01"), "it speaks format 258"),
        (&message(b"partykit hand-over \x01\x00\xFF\xFF"), "cannot take over"),
        // As if it had descriptors.
        (&[1, 0, 0, 0, 1, 0, 0], "descriptors are missing"),
    ];
    for (words, why) in words {
        let mut stranger = UnixStream::connect(site.rendezvous()).unwrap();
        stranger.set_read_timeout(Some(NEVER)).unwrap();
        stranger.write_all(words).unwrap();
        let line = site.wait_for("refused a process that wanted to take over");
        assert!(line.contains(why), "{line}");
        let mut answer = Vec::new();
        // What it had not read resets the connection.
        let _ = stranger.read_to_end(&mut answer);
        ada.say("still here");
        assert_eq!(ada.text(), "still here");
    }
    drop(UnixStream::connect(site.rendezvous()).unwrap());
    site.wait_for("refused a process that wanted to take over");
    site.replace();
    ada.say("still here");
    assert_eq!(ada.text(), "still here");
}

#[test]
fn what_says_nothing_holds_no_hand_over_up() {
    let mut site = Site::start("");
    let mut ada = site.connect("a", "ada");
    let mute = UnixStream::connect(site.rendezvous()).unwrap();
    let mut half = UnixStream::connect(site.rendezvous()).unwrap();
    half.write_all(&[20, 0, 0]).unwrap();
    site.replace();
    ada.say("still here");
    assert_eq!(ada.text(), "still here");
    drop((mute, half));
}
