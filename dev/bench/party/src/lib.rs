//! The party that is measured: it echoes, broadcasts, and tells how many are here.
//!
//! What a message asks for is its first byte: [`ECHO`], [`BROADCAST`] or [`COUNT`]. `dev/bench/partyserver`
//! is the same for PartyServer.

use std::sync::atomic::{AtomicU64, Ordering};

use partykit::{Close, Connection, Message, Options, Request, Response, Result, Room, Server};

#[cfg(feature = "workers")]
partykit::workers::export! { Talk as "main" }

/// Asks for an answer to the sender alone.
pub const ECHO: u8 = b'e';

/// That answer. The byte behind it is [`FIRST`] or [`LATER`]; the rest is as it came.
pub const ANSWER: u8 = b'a';

/// The instance of the room has not answered before: it is a new one.
pub const FIRST: u8 = b'1';

/// The instance has answered before.
pub const LATER: u8 = b'.';

/// Goes to everyone else in the room, as it is.
pub const BROADCAST: u8 = b'b';

/// Asks how many connections the room has, and how many have ended: `c5 open, 2 ended`.
pub const COUNT: u8 = b'c';

/// What a request is answered.
pub const ANSWERED: &str = "The room has answered.";

/// How often `on_start` has run, in all rooms.
static STARTS: AtomicU64 = AtomicU64::new(0);

/// How often `on_start` has run in this process, in all rooms.
pub fn starts() -> u64 {
    STARTS.load(Ordering::SeqCst)
}

/// The server, everything as it is by default, but for the sleep.
#[derive(Debug, Default)]
pub struct Talk {
    has_answered: bool,
}

impl Server for Talk {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_start(&mut self, _: &Room) -> Result {
        STARTS.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        let Some(text) = message.as_text() else { return Ok(()) };
        match text.as_bytes().first() {
            Some(&ECHO) => {
                let is_later = std::mem::replace(&mut self.has_answered, true);
                let mut answer = String::with_capacity(text.len());
                answer.push(char::from(ANSWER));
                answer.push(char::from(if is_later { LATER } else { FIRST }));
                answer.push_str(text.get(2..).unwrap_or_default());
                sender.send(answer);
            }
            Some(&BROADCAST) => room.broadcast(message).except(sender).send(),
            Some(&COUNT) => {
                sender.send(format!("c{} open, {} ended", room.count(), ended(room).await?));
            }
            _ => {}
        }
        Ok(())
    }

    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        Ok(Response::new(ANSWERED.into()))
    }

    async fn on_close(&mut self, room: &Room, _: &Connection, _: Close) -> Result {
        let ended = ended(room).await? + 1;
        room.storage().put("ended", &ended)?;
        Ok(())
    }
}

/// How many connections the room was told the end of.
async fn ended(room: &Room) -> Result<u64> {
    Ok(room.storage().get("ended").await?.unwrap_or_default())
}
