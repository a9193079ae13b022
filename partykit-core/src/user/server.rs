use std::future::{self, Future};

use crate::{
    Admission, Admit, Alarm, Body, Close, Connection, HandlerError, Lobby, Message, Options,
    Request, Response, Result, Room, TaskResult,
};

/// What a room does when a client connects, sends a message, leaves or makes an HTTP request.
///
/// Each room has an instance of its own while it is awake. Its handlers run strictly one after another, in
/// the order of the events. Each handler is a transaction: its writes to [storage](Room::storage) are
/// committed when it returns, and what it sent after a write leaves when that write is durable.
///
/// When the server [hibernates](Options::hibernate), the instance of an idle room is dropped while its
/// connections stay open. The next event makes a new instance, runs [`on_start`](Server::on_start) and then
/// the handler of the event. So fields are only a cache: put what has to survive a sleep into storage or into
/// a [connection's state](Connection::set_state).
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
    /// The options and limits of this server's rooms.
    fn options() -> Options {
        Options::new()
    }

    /// Checks a WebSocket request before the room sees it. The room is not woken. Authenticate here, choose a
    /// sub-protocol, and give the room [props](crate::Admission::props).
    ///
    /// A [`Reject`](crate::Reject), as `Err` or in [`Admit::Reject`](crate::Admit::Reject), closes the
    /// connection with its close code and text. Any other `Err` is answered with 500 and an error id.
    fn on_before_connect(
        request: Request,
        lobby: &Lobby,
    ) -> impl Future<Output = Result<Admit>> + Send {
        let _ = lobby;
        future::ready(Ok(Admission::by_default_of::<Self>(request).into()))
    }

    /// Checks a plain HTTP request before the room sees it. A [`Reject`](crate::Reject) is answered with its
    /// status and text.
    fn on_before_request(
        request: Request,
        lobby: &Lobby,
    ) -> impl Future<Output = Result<Admit>> + Send {
        let _ = lobby;
        future::ready(Ok(Admission::by_default_of::<Self>(request).into()))
    }

    /// The tags of a new connection, beside its id, which is always the first tag. They never change.
    /// [`Room::tagged`] and [`Broadcast::tag`](crate::Broadcast::tag) select by them.
    ///
    /// Runs before [`on_connect`](Server::on_connect), as a part of it. The connect fails on an `Err`, or if
    /// the tags are over the limits (9 beside the id, 1 to 256 bytes each).
    fn connection_tags(&mut self, room: &Room, id: &str, request: &Request) -> Result<Vec<String>> {
        let _ = (room, id, request);
        Ok(Vec::new())
    }

    /// Runs once at the beginning of each instance: at the first event of a room, and again after each sleep,
    /// restart or failure. [`Room::start_reason`] tells which of these it is.
    ///
    /// It is a transaction of its own. If it fails, the event that started the room fails too, and the next
    /// event tries again.
    fn on_start(&mut self, room: &Room) -> impl Future<Output = Result> + Send {
        let _ = room;
        future::ready(Ok(()))
    }

    /// A client connects. The connection is listed already. Its handshake is answered when this has returned
    /// and its writes are durable. What was sent to the connection follows at once.
    ///
    /// If it fails, the client gets a Close with 1011 and an error id, and there is no `on_close`. If it
    /// returns a [`Reject`](crate::Reject), the Close has its code and text.
    fn on_connect(
        &mut self,
        room: &Room,
        connection: &Connection,
        request: &Request,
    ) -> impl Future<Output = Result> + Send {
        let _ = (room, connection, request);
        future::ready(Ok(()))
    }

    /// A client sends a message.
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

    /// A connection has ended and is not listed any more. Runs once for every connection whose `on_connect`
    /// succeeded, except when the server crashes or shuts down: clean up in [`on_start`](Server::on_start).
    fn on_close(
        &mut self,
        room: &Room,
        connection: &Connection,
        close: Close,
    ) -> impl Future<Output = Result> + Send {
        let _ = (room, connection, close);
        future::ready(Ok(()))
    }

    /// A handler has failed. This is an event of its own, after the rollback. If the failure has dropped the
    /// instance, it runs on a new one. If `on_error` itself fails, that is only logged.
    fn on_error(
        &mut self,
        room: &Room,
        error: HandlerError,
    ) -> impl Future<Output = Result> + Send {
        let _ = (room, error);
        future::ready(Ok(()))
    }

    /// Answers a plain HTTP request, or a [call](Room::party) from another room. Default: 404.
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

    /// The room's [alarm](crate::Storage::set_alarm) rings, also if no client is connected or the server was
    /// down. While this runs, no alarm is set; the handler may set the next one.
    ///
    /// An alarm rings at least once. It is removed when this handler has succeeded and its writes are
    /// durable. If the handler fails, the alarm rings again, at most 6 times: after 2 s, and then after twice
    /// the time of the last pause. If the process ends while it runs, the alarm also rings again, without a
    /// limit, after pauses of 2 s to 5 minutes. An alarm that any handler sets meanwhile replaces it.
    fn on_alarm(&mut self, room: &Room, alarm: Alarm) -> impl Future<Output = Result> + Send {
        let _ = (room, alarm);
        future::ready(Ok(()))
    }

    /// A [schedule](Room::schedules) of the room runs, also if no client is connected or the server was down.
    ///
    /// A run happens at least once. If the room could not run it in time, the runs that were missed become one:
    /// see [`Run::missed`](crate::Run::missed). When this handler has succeeded and its writes are durable, a
    /// schedule that repeats goes on, and one that does not is deleted. If the handler fails, the run is tried
    /// again as an [alarm](Server::on_alarm) is: at most 6 times, from 2 s on. After that a schedule that
    /// repeats goes on with its next time, and one that does not is deleted.
    ///
    /// Schedules and the alarm ring one after another, each in a handler of its own, in the order of their
    /// times.
    #[cfg(feature = "schedules")]
    fn on_schedule(&mut self, room: &Room, run: crate::Run) -> impl Future<Output = Result> + Send {
        let _ = (room, run);
        future::ready(Ok(()))
    }

    /// A task started with [`Room::spawn`] has ended, or has [emitted](crate::Emitter::emit) a value.
    fn on_task(&mut self, room: &Room, result: TaskResult) -> impl Future<Output = Result> + Send {
        let _ = (room, result);
        future::ready(Ok(()))
    }
}
