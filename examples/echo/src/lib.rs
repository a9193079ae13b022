//! An echo: every client gets its own messages back. The WebSocket conformance suite is run against it
//! (`cargo xtask autobahn`).

use partykit::{Connection, Message, Options, Result, Room, Server};

/// The echo's server.
#[derive(Debug, Default)]
pub struct Echo;

impl Server for Echo {
    /// Messages of up to 16 MiB: the longest that the conformance suite sends.
    fn options() -> Options {
        Options::new().hibernate(true).max_message(16 << 20)
    }

    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        sender.send(message);
        Ok(())
    }
}
