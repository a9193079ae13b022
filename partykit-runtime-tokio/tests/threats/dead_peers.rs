use std::time::Duration;

use partykit_core::{Close, Connection, Message, Options, Result, Room, Server};
use partykit_runtime_tokio::Runtime;
use tokio::sync::mpsc;

use crate::{
    support::{serve, within},
    witness::Witness,
};

/// An echo that tells how connections ended.
struct Coroner(mpsc::UnboundedSender<(String, u16)>);

impl Server for Coroner {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        match message.as_text() {
            Some("count") => sender.send(room.count().to_string()),
            _ => sender.send(message),
        }
        Ok(())
    }

    async fn on_close(&mut self, _: &Room, connection: &Connection, close: Close) -> Result {
        self.0.send((connection.id().to_owned(), close.code().into()))?;
        Ok(())
    }
}

/// A client whose machine is gone answers no Ping, and nothing says so.
#[tokio::test]
async fn threat_16_dead_peers() {
    let (tell, mut ends) = mpsc::unbounded_channel();
    let make = move |_: &_| Coroner(tell.clone());
    let builder = Runtime::builder().party_with("echo", make).keep_alive(Duration::ZERO);
    let site = serve(builder).await;
    let mut witness = Witness::of(&site).await;
    let dead = site.connect("/parties/echo/a?_pk=dead").await.into_raw();
    let end = within(async {
        loop {
            tokio::select! {
                end = ends.recv() => break end.unwrap(),
                // It answers the Pings while it waits for echoes.
                () = witness.echo_ten() => {}
            }
        }
    });
    assert_eq!(end.await, ("dead".into(), 1006));
    let left = site.handle.room_stats("echo", "a").unwrap().connections;
    assert_eq!(left, 1, "the witness is left, and nobody else");
    drop(dead);
}
