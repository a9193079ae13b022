use crate::{Connection, Message, Room, connection::outgoing::Shared};

/// A message to many connections, made with [`Room::broadcast`] and sent with [`Broadcast::send`].
///
/// All connections share one copy of it.
///
/// ```
/// # use partykit_core::{Connection, Room};
/// # fn say(room: &Room, sender: &Connection) {
/// room.broadcast("to everyone else").except(sender).send();
/// room.broadcast("to the admins").tag("admin").send();
/// # }
/// ```
#[must_use = "a broadcast does nothing until it is sent"]
#[derive(Debug)]
pub struct Broadcast<'a> {
    room: &'a Room,
    message: Message,
    tag: Option<String>,
    except: Vec<Connection>,
}

impl<'a> Broadcast<'a> {
    pub(crate) fn new(room: &'a Room, message: Message) -> Self {
        Self { room, message, tag: None, except: Vec::new() }
    }

    /// Leaves this connection out. The socket counts, not the id. It may be called several times.
    pub fn except(mut self, connection: &Connection) -> Self {
        self.except.push(connection.clone());
        self
    }

    /// Leaves these connections out.
    pub fn except_all<'c>(mut self, connections: impl IntoIterator<Item = &'c Connection>) -> Self {
        self.except.extend(connections.into_iter().cloned());
        self
    }

    /// Sends only to the connections with this tag. The last call counts.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Sends the message to all connections that are listed now. If the handler, or an earlier one, has
    /// written something that is not durable yet, the message waits until it is.
    pub fn send(self) {
        let frame = Shared::new(self.message);
        self.room.inside(|turn| turn.broadcast(self.tag.as_deref(), &self.except, frame));
    }
}
