//! A relay: what one client says, the others of its room hear. It keeps nothing in memory, so its
//! rooms sleep whenever no client speaks, and the clients do not notice.

#[cfg(feature = "workers")]
mod workers;

use partykit::{Close, Connection, Message, Options, Request, Result, Room, Server};

/// The relay's server.
#[derive(Debug, Default)]
pub struct Relay;

impl Server for Relay {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_connect(&mut self, room: &Room, _: &Connection, _: &Request) -> Result {
        announce(room)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        room.broadcast(message).except(sender).send();
        Ok(())
    }

    async fn on_close(&mut self, room: &Room, _: &Connection, _: Close) -> Result {
        announce(room)
    }
}

/// Tells all clients how many are here.
fn announce(room: &Room) -> Result {
    let (count, mode) = (room.count(), if room.count() > 1 { "multi" } else { "solo" });
    room.broadcast(format!(r#"{{"type":"connections","count":{count},"mode":"{mode}"}}"#)).send();
    Ok(())
}
