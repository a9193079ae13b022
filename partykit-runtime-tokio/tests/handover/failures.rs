//! A next process that cannot take over. The old one goes on, and loses nothing.

use std::{
    io::{Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    sync::mpsc,
    thread,
};

use crate::house::{Site, chat};

/// A next process of another release.
pub(crate) fn speak_another_format() -> ! {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut wire = UnixStream::from(stdin);
    let body = b"partykit hand-over \xFF\xFFand more";
    wire.write_all(&[body.len() as u8, 0, 0, 0, 0, 0]).unwrap();
    wire.write_all(body).unwrap();
    let _ = wire.read(&mut [0; 100]);
    std::process::exit(0)
}

/// The old process says why it goes on, and its clients notice nothing.
fn goes_on(mode: &str, why: &str) {
    let mut site = Site::start(mode);
    let client = site.connect("a", "ada");
    let (stop, until) = mpsc::channel::<()>();
    let talking = thread::spawn(move || chat(client, &until));
    for _ in 0..2 {
        site.tell("-USR2");
        let line = site.wait_for("the hand-over was given up, and this process goes on");
        assert!(line.contains(why), "{line}");
    }
    drop(stop);
    let said = talking.join().unwrap();
    let mut reader = site.connect("a", "reader");
    reader.say("stored");
    assert_eq!(reader.text(), said.to_string());
    assert!(site.ask("a").starts_with(&site.process.to_string()));
}

#[test]
fn a_next_process_that_dies_at_once() {
    goes_on("dies", "the next process failed before it had everything");
}

#[test]
fn a_next_process_of_another_format() {
    goes_on("hello of another format", "it speaks format 65535 of the hand-over");
}

#[test]
fn a_next_process_without_the_party() {
    goes_on("another party", "it has no party \"main\"");
}

#[test]
fn a_next_process_with_another_store() {
    goes_on("another store", "its store is None");
}

#[test]
fn a_next_process_that_panics_before_it_serves() {
    goes_on("panics", "the next process failed before it had everything");
}

#[test]
fn a_next_process_that_is_killed_when_it_has_everything() {
    goes_on(
        "next dies at all sockets are here",
        "the next process failed before it had everything",
    );
}

#[test]
fn a_handler_that_does_not_end_is_named() {
    let mut site = Site::start("short");
    let (mut stuck, mut ada) = (site.connect("stuck", "stuck"), site.connect("a", "ada"));
    stuck.say("hang");
    ada.say("one");
    assert_eq!(ada.text(), "one");
    site.tell("-USR2");
    let line = site.wait_for("the hand-over was given up, and this process goes on");
    assert!(line.contains("on_message of main/stuck did not end in time"), "{line}");
    ada.say("two");
    assert_eq!(ada.text(), "two");
}
