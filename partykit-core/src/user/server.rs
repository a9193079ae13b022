use std::future::{self, Future};

use crate::{
    Admit, Alarm, Body, Close, Connection, HandlerError, Lobby, Message, Options, Request,
    Response, Result, Room, TaskResult,
};

/// What a room does when somebody connects, speaks, leaves or sends an HTTP request.
///
/// Each room has an instance of its own while it is awake. Its handlers run strictly one after
/// another, in the order in which things happened, and each is a transaction: what it wrote to
/// [storage](Room::storage) is committed when it returns, and what it said after a write leaves when
/// that write is durable.
///
/// When the server [hibernates](Options::hibernate), the instance of an idle room is dropped while
/// its connections stay open; the next event makes a new one, runs [`on_start`](Server::on_start) and
/// then its handler. So fields are a cache: what has to outlive a sleep belongs into storage or into a
/// [connection's state](Connection::set_state).
///
/// ```
/// use partykit_core::{Connection, Message, Options, Result, Room, Server};
///
/// #[derive(Default)]
/// struct Relay;
///
/// impl Server for Relay {
///     fn options() -> Options {
///         Options::new().hibernate(true)
///     }
///
///     async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
///         room.broadcast(message).except(sender).send();
///         Ok(())
///     }
/// }
/// ```
pub trait Server: Sized + Send + 'static {
    /// How the rooms of this server live, and their limits.
    fn options() -> Options {
        Options::new()
    }

    /// Looks at a WebSocket request before any room sees it: no room exists yet, none is woken.
    /// Here is the place to authenticate, to choose a sub-protocol and to give the room
    /// [props](crate::Admission::props).
    ///
    /// A [`Reject`](crate::Reject), returned as `Err` or in [`Admit::Reject`](crate::Admit::Reject), closes
    /// the client with its close code and text. Any other `Err` is answered with 500 and an error id.
    fn on_before_connect(
        request: Request,
        lobby: &Lobby,
    ) -> impl Future<Output = Result<Admit>> + Send {
        let _ = lobby;
        future::ready(Ok(request.into()))
    }

    /// The same for a plain HTTP request. A [`Reject`](crate::Reject) is answered with its status and text.
    fn on_before_request(
        request: Request,
        lobby: &Lobby,
    ) -> impl Future<Output = Result<Admit>> + Send {
        let _ = lobby;
        future::ready(Ok(request.into()))
    }

    /// Tags of a new connection, beside its id, which is always the first one. They are fixed for its
    /// life; [`Room::tagged`] and [`Broadcast::tag`](crate::Broadcast::tag) select by them.
    ///
    /// Runs before [`on_connect`](Server::on_connect), as a part of it: an `Err`, or tags over the
    /// limits (9 beside the id, 1 to 256 bytes each), fail the connect.
    fn connection_tags(&mut self, room: &Room, id: &str, request: &Request) -> Result<Vec<String>> {
        let _ = (room, id, request);
        Ok(Vec::new())
    }

    /// Runs before anything else in the life of an instance, once: after the first event of a room,
    /// and again after each sleep, restart or failure. [`Room::start_reason`] tells which.
    ///
    /// A transaction of its own. If it fails, the event that started the room fails with it, and the
    /// next event tries again.
    fn on_start(&mut self, room: &Room) -> impl Future<Output = Result> + Send {
        let _ = room;
        future::ready(Ok(()))
    }

    /// Somebody connects. The connection is listed already; its handshake is answered when this
    /// returns and its writes are durable, and what was sent to it follows at once.
    ///
    /// If it fails, the client gets a Close with 1011 and an error id, and was never here. If it returns a
    /// [`Reject`](crate::Reject), the Close has that one's code and text.
    fn on_connect(
        &mut self,
        room: &Room,
        connection: &Connection,
        request: &Request,
    ) -> impl Future<Output = Result> + Send {
        let _ = (room, connection, request);
        future::ready(Ok(()))
    }

    /// A connection says something.
    ///
    /// A [`Reject`](crate::Reject) drops the message without an answer, and the room goes on.
    fn on_message(
        &mut self,
        room: &Room,
        sender: &Connection,
        message: Message,
    ) -> impl Future<Output = Result> + Send {
        let _ = (room, sender, message);
        future::ready(Ok(()))
    }

    /// A connection has ended: it is not listed any more. Runs once for every connection whose
    /// `on_connect` succeeded, except after a crash or a shutdown of the server: reconcile in
    /// [`on_start`](Server::on_start).
    fn on_close(
        &mut self,
        room: &Room,
        connection: &Connection,
        close: Close,
    ) -> impl Future<Output = Result> + Send {
        let _ = (room, connection, close);
        future::ready(Ok(()))
    }

    /// A handler has failed. An event of its own: it comes after the rollback, and if the failure
    /// took the instance, it runs on a new one. Its own failure is only logged.
    fn on_error(
        &mut self,
        room: &Room,
        error: HandlerError,
    ) -> impl Future<Output = Result> + Send {
        let _ = (room, error);
        future::ready(Ok(()))
    }

    /// A plain HTTP request, or a [call](Room::party) from another room. 404 unless implemented.
    fn on_request(
        &mut self,
        room: &Room,
        request: Request,
    ) -> impl Future<Output = Result<Response>> + Send {
        let _ = (room, request);
        let mut response = Response::new(Body::from("not found\n"));
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        future::ready(Ok(response))
    }

    /// The room's [alarm](crate::Storage::set_alarm) rings, even if no client is connected or the server was
    /// down in between. While this runs, no alarm is set; it may set the next one.
    ///
    /// At least once: an alarm is gone when this handler has succeeded and its writes are durable. When
    /// it fails, the alarm rings again: 6 times at most, after 2 s and then twice as long each time. When
    /// the process ends in it, it rings again too, however often that happens, after pauses of 2 s to 5
    /// minutes. An alarm that is set meanwhile, by any handler, takes its place.
    fn on_alarm(&mut self, room: &Room, alarm: Alarm) -> impl Future<Output = Result> + Send {
        let _ = (room, alarm);
        future::ready(Ok(()))
    }

    /// A task started with [`Room::spawn`] has ended, or has [emitted](crate::Emitter::emit) a value.
    fn on_task(&mut self, room: &Room, result: TaskResult) -> impl Future<Output = Result> + Send {
        let _ = (room, result);
        future::ready(Ok(()))
    }
}
