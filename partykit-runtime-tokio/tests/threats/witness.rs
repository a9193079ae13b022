use std::future::Future;

use partykit_core::{Connection, Message, Options, Request, Response, Result, Room, Server};
use tokio_tungstenite::tungstenite;

use crate::support::{Client, Site, eventually};

/// Says texts back, and bytes to all others. Its rooms answer a GET with their names.
#[derive(Default)]
pub(crate) struct Echo;

impl Server for Echo {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        match message.as_text() {
            Some("count") => sender.send(room.count().to_string()),
            Some(_) => sender.send(message),
            None => room.broadcast(message).except(sender).send(),
        }
        Ok(())
    }

    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        Ok(Response::new(room.id().to_owned().into()))
    }
}

/// An honest member of the room `a` of the party `echo`.
pub(crate) struct Witness<'a> {
    client: Client,
    site: &'a Site,
}

impl<'a> Witness<'a> {
    pub(crate) async fn of(site: &'a Site) -> Self {
        Self { client: site.connect("/parties/echo/a?_pk=witness").await, site }
    }

    /// Ten echoes while the attack builds up, and ten more while what is left of it is there.
    pub(crate) async fn during<T>(&mut self, attack: impl Future<Output = T>) -> T {
        let (left, ()) = tokio::join!(attack, self.echo_ten());
        self.echo_ten().await;
        left
    }

    pub(crate) async fn echo_ten(&mut self) {
        for n in 0..10 {
            let said = format!("echo {n}");
            assert_eq!(self.say(&said).await, said);
        }
    }

    /// The bytes that somebody else said.
    pub(crate) async fn take_bytes(&mut self) {
        let message = self.client.message().await;
        assert!(message.is_binary(), "no bytes: {message:?}");
    }

    /// Nobody else is left in the room, nor anything of anybody else.
    pub(crate) async fn is_alone(&mut self) {
        let connections = || self.site.handle.room_stats("echo", "a").unwrap().connections;
        eventually(|| connections() == 1).await;
        assert_eq!(self.say("count").await, "1");
    }

    /// What the room answers.
    async fn say(&mut self, text: &str) -> String {
        self.client.send(text).await;
        loop {
            match self.client.message().await {
                tungstenite::Message::Text(text) => return text.as_str().to_owned(),
                tungstenite::Message::Close(close) => panic!("the witness was closed: {close:?}"),
                _ => {}
            }
        }
    }
}
