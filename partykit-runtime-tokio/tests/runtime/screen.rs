use std::time::Duration;

use partykit_core::{BoxError, Connection, Message, Options, Result, Room, Server};
use partykit_runtime_tokio::{Runtime, ServeError};

use crate::support::serve;

#[derive(Default)]
struct Relay;

impl Server for Relay {
    fn options() -> Options {
        Options::new().hibernate(true).hibernate_after(Duration::ZERO)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        room.broadcast(message).except(sender).send();
        Ok(())
    }
}

#[tokio::test]
async fn a_relay_relays() {
    let site = serve(Runtime::builder().party::<Relay>("main")).await;
    let mut ada = site.connect("/parties/main/lobby?_pk=ada").await;
    let mut bob = site.connect("/parties/main/lobby").await;
    let mut eve = site.connect("/parties/main/other").await;
    ada.send("hello").await;
    assert_eq!(bob.text().await, "hello");
    bob.send("you too").await;
    assert_eq!(ada.text().await, "you too");
    ada.send("again").await;
    assert_eq!(bob.text().await, "again");

    let mut dan = site.connect("/parties/main/other").await;
    dan.send("first of this room").await;
    assert_eq!(eve.text().await, "first of this room");
}

/// The last lines of a `main` as users write it.
async fn main_of(addr: &str) -> Result {
    Runtime::builder().party::<Relay>("main").in_memory().serve(addr).await
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_of_main() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let error: BoxError = main_of(&addr).await.unwrap_err();
    let error = error.downcast_ref::<ServeError>().unwrap();
    let is_in_use = |io: &std::io::Error| io.kind() == std::io::ErrorKind::AddrInUse;
    assert!(matches!(error, ServeError::Listen { source, .. } if is_in_use(source)));
    // What a `main` that returns it prints.
    let printed = format!("{error:?}");
    assert!(printed.starts_with(&format!("cannot listen on {addr:?}: ")), "{printed}");
}

#[test]
#[should_panic(expected = "two parties are named \"main\"")]
fn names_are_unique() {
    let _ = Runtime::builder().party::<Relay>("main").party::<Relay>("main");
}

#[test]
#[should_panic(expected = "a party needs a name")]
fn names_are_not_empty() {
    let _ = Runtime::builder().party::<Relay>("");
}

#[test]
#[should_panic(expected = "\"example.com\" is not an origin")]
fn origins_are_origins() {
    let _ = Runtime::builder().allow_origins(["https://example.com", "example.com"]);
}
