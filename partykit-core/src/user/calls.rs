use std::sync::Arc;

use futures_util::future::{Either, select};

use crate::{CallError, InvalidRoomId, Request, Response, Room, RoomAddress, RoomId};

/// Another party, to reach its rooms. Made with [`Room::party`].
///
/// ```
/// use partykit_core::{Body, Connection, Message, Request, Result, Room, Server};
///
/// struct Chat;
///
/// impl Server for Chat {
///     async fn on_message(&mut self, room: &Room, _: &Connection, message: Message) -> Result {
///         let counter = room.party("counter").room("messages");
///         let total = counter.request(Request::new(Body::empty())).await?;
///         counter.tell(Request::new(Body::from("one more")))?;
///         Ok(())
///     }
/// }
/// ```
#[derive(Debug)]
pub struct PartyRef<'a> {
    room: &'a Room,
    name: Arc<str>,
}

impl<'a> PartyRef<'a> {
    pub(crate) fn new(room: &'a Room, name: Arc<str>) -> Self {
        Self { room, name }
    }

    /// One of the party's rooms. The id is checked when the result is used.
    pub fn room(&self, id: &str) -> RoomRef<'a> {
        let address = RoomId::new(id).map(|id| RoomAddress::new(self.name.clone(), id));
        RoomRef { room: self.room, address }
    }
}

/// Another room, to call or tell. Made with [`PartyRef::room`].
///
/// ```
/// use partykit_core::{Body, CallError, Request, Room, RoomRef};
///
/// fn count(room: &Room) -> Result<(), CallError> {
///     let counter: RoomRef = room.party("counter").room("all");
///     counter.tell(Request::new(Body::from("one more")))
/// }
/// # let _ = count;
/// ```
#[derive(Debug)]
pub struct RoomRef<'a> {
    room: &'a Room,
    address: Result<RoomAddress, InvalidRoomId>,
}

impl RoomRef<'_> {
    /// Sends a request to the room's [`on_request`](crate::Server::on_request) and waits for the answer. The
    /// request leaves when the writes of earlier handlers are durable.
    ///
    /// It is delivered at most once. After an error, the request may have arrived or not.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn request(&self, request: Request) -> Result<Response, CallError> {
        let cell = self.room.cell();
        let to = self.reach()?;
        let (uncommitted, written, chain, limit) = self.room.inside(|turn| {
            let limit = turn.options().call_timeout;
            (turn.has_uncommitted(), turn.written(), turn.chain(), limit)
        });
        if uncommitted {
            return Err(CallError::UncommittedWrites(to));
        }
        if to == *cell.address() || chain.contains(&to) {
            return Err(CallError::Cycle(to));
        }
        crate::user::storage::durable(self.room, written).await;
        let chain = chain.then(cell.address().clone());
        let call = cell.host().call(to.clone(), request, chain);
        let over = cell.host().sleep_until(cell.host().elapsed() + limit);
        match select(call, over).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(CallError::Timeout(to, limit)),
        }
    }

    /// Sends a request to the room's [`on_request`](crate::Server::on_request) and does not wait. The answer
    /// is dropped. The request leaves like a message: in order, and after the writes before it are durable.
    ///
    /// It is delivered at most once. The caller does not learn whether it arrived.
    ///
    /// # Errors
    ///
    /// When the room's id is not valid.
    pub fn tell(&self, request: Request) -> Result<(), CallError> {
        let to = self.reach()?;
        self.room.inside(|turn| turn.tell(to, request));
        Ok(())
    }

    fn reach(&self) -> Result<RoomAddress, CallError> {
        let to = self.address.clone()?;
        if self.room.cell().host().knows_party(to.party()) {
            Ok(to)
        } else {
            Err(CallError::UnknownParty(to.party().to_owned()))
        }
    }
}
