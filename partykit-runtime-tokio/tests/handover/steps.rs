//! What happens in the middle of a hand-over: a death, another signal.

use std::{process::Command, sync::mpsc, thread};

use crate::house::{Client, Site, chat, process_of};

/// The old process is killed when the next one has everything. Clients stay, at the next one.
fn survives(step: &str) {
    let mut site = Site::start(&format!("first dies at {step}"));
    let client = site.connect("a", "ada");
    let (stop, until) = mpsc::channel::<()>();
    let talking = thread::spawn(move || chat(client, &until));
    site.tell("-USR2");
    let line = site.wait_for("a hand-over to the next process begins");
    site.process = process_of(&line);
    site.wait_for("took over from the process before");
    assert_eq!(site.first_ended(), None, "a signal ended it");
    site.wait_for("listening on");
    drop(stop);
    let said = talking.join().unwrap();
    let mut reader = site.connect("a", "reader");
    reader.say("stored");
    assert_eq!(reader.text(), said.to_string());
    site.replace();
    reader.say("stored");
    assert_eq!(reader.text(), said.to_string());
}

#[test]
fn the_old_process_dies_when_it_has_sent_everything() {
    survives("sent all sockets to the next process");
}

#[test]
fn the_old_process_dies_before_it_says_that_all_is_handed_over() {
    survives("the next process has everything");
}

#[test]
fn a_second_hand_over_meanwhile_is_refused() {
    let mut site = Site::start("hangs");
    let mut ada = site.connect("a", "ada");
    site.tell("-USR2");
    let next = process_of(&site.wait_for("a hand-over to the next process begins"));
    site.tell("-USR2");
    site.wait_for("not handed over: another hand-over is under way");
    ada.say("one");
    assert_eq!(ada.text(), "one", "nothing has stopped yet");
    assert!(kill("-KILL", next));
    site.wait_for("the hand-over was given up, and this process goes on");
    ada.say("two");
    assert_eq!(ada.text(), "two");
    site.tell("-USR2");
    let next = process_of(&site.wait_for("a hand-over to the next process begins"));
    assert!(kill("-KILL", next));
    site.wait_for("the hand-over was given up, and this process goes on");
}

/// SIGTERM to the old process, while the next one says nothing: a shutdown like any other.
fn ends_in_order(mode: &str, last: &str) {
    let mut site = Site::start(mode);
    let mut ada = site.connect("a", "ada");
    ada.say("one");
    assert_eq!(ada.text(), "one");
    site.tell("-USR2");
    let next = process_of(&site.wait_for("a hand-over to the next process begins"));
    if !last.is_empty() {
        site.wait_for(last);
    }
    site.tell("-TERM");
    site.wait_for("this process goes on: the runtime shuts down");
    assert!(!kill("-0", next), "the next process is gone before this one goes on");
    is_told_to_come_back(&mut ada);
    assert_eq!(site.first_ended(), Some(0));
}

fn is_told_to_come_back(client: &mut Client) {
    let (first, close) = client.hear();
    assert_eq!((first, &close[..2]), (0x88, &1012_u16.to_be_bytes()[..]));
    let echo = crate::house::fragment(0x88, &close[..2]);
    std::io::Write::write_all(&mut client.0, &echo).unwrap();
}

#[test]
fn a_shutdown_while_the_next_process_starts() {
    ends_in_order("hangs", "");
}

#[test]
fn a_shutdown_while_the_next_process_takes_everything() {
    ends_in_order("next stalls at all sockets are here", "all sockets are here");
}

fn kill(signal: &str, process: u32) -> bool {
    Command::new("kill").args([signal, &process.to_string()]).status().unwrap().success()
}
