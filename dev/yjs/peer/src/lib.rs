//! Documents that do what the tests in `dev/yjs` ask of them. Those tests say by meaning what y-partyserver's own
//! tests say.

use partykit::{
    Body, Connection, Request, Response, Result, Room,
    yjs::{Document, YServer, Yjs, custom_message},
};

/// The server's rooms.
pub type Documents = Yjs<Peer>;

/// What the rooms do beside being documents.
#[derive(Debug, Default)]
pub struct Peer;

/// The update of a document whose text `text` reads "seed".
const SEED: &[u8] = &[1, 1, 1, 0, 4, 1, 4, b't', b'e', b'x', b't', 4, b's', b'e', b'e', b'd', 0];

impl YServer for Peer {
    /// `?read-only` in the address of the connection.
    fn is_read_only(&self, _: &Room, connection: &Connection) -> bool {
        connection.uri().contains("read-only")
    }

    /// Rooms whose names begin with `seeded` begin with a text.
    async fn on_load(&mut self, room: &Room) -> Result<Option<Vec<u8>>> {
        Ok(room.id().starts_with("seeded").then(|| SEED.to_vec()))
    }

    /// `ping` is answered with `pong`; what begins with `all:` goes to all others.
    async fn on_custom_message(&mut self, room: &Room, sender: &Connection, text: &str) -> Result {
        match text.strip_prefix("all:") {
            Some(rest) => room.broadcast(custom_message(rest)).except(sender).send(),
            None if text == "ping" => sender.send(custom_message("pong")),
            None => {}
        }
        Ok(())
    }

    /// The text.
    async fn on_request(
        &mut self,
        _: &Room,
        mut document: Document<'_>,
        _: Request,
    ) -> Result<Response> {
        Ok(Response::new(Body::from(document.text("text").await?)))
    }
}
