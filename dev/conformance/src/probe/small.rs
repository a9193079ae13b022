use partykit::{Connection, Message, Options, Result, Room, Server};

/// How many connections a room of [`Small`] holds.
pub const SMALL_CONNECTIONS: usize = 2;
/// The longest message to a room of [`Small`], in bytes.
pub const SMALL_MESSAGE: usize = 100;
/// The longest body of a request to a room of [`Small`], in bytes.
pub const SMALL_BODY: usize = 1000;

/// Echoes, within narrow limits. It has no `on_request`.
#[derive(Debug, Default)]
pub struct Small;

impl Server for Small {
    fn options() -> Options {
        Options::new()
            .hibernate(true)
            .max_connections(SMALL_CONNECTIONS)
            .max_message(SMALL_MESSAGE)
            .max_request_body(SMALL_BODY)
    }

    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        sender.send(message);
        Ok(())
    }
}
