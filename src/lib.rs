//! Rooms by name, WebSockets, durable storage, alarms and **hibernation**, as a library.
//!
//! You write a [`Server`]: what a room does when a client connects, sends a message, leaves or makes an HTTP
//! request. A runtime runs it, either on Tokio in a binary of your own ([`Runtime`]), or on Cloudflare Workers
//! (the module `workers`). When nothing happens in a room, its instance is dropped from memory while every
//! socket stays open. The next event makes a new instance. Clients notice nothing.
//!
//! This page is a tour: [a first room](#a-first-room), [rooms and addresses](#rooms-and-addresses),
//! [handlers](#handlers), [state and storage](#state-and-storage), [hibernation](#hibernation),
//! [errors](#errors), [alarms and tasks](#alarms-and-tasks), [testing](#testing), [runtimes](#runtimes),
//! [features](#features).
//!
//! # A first room
//!
//! This relay sends what a client says to all other clients of its room:
//!
//! ```rust,no_run
//! # #[cfg(feature = "tokio")] mod relay {
//! use partykit::{Connection, Message, Options, Result, Room, Runtime, Server};
//!
//! #[derive(Default)]
//! struct Relay;
//!
//! impl Server for Relay {
//!     fn options() -> Options {
//!         Options::new().hibernate(true)
//!     }
//!
//!     async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
//!         room.broadcast(message).except(sender).send();
//!         Ok(())
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result {
//!     Runtime::builder().party::<Relay>("main").serve("127.0.0.1:1999").await
//! }
//! # }
//! ```
//!
//! Any PartySocket client can talk to it, and so can every other WebSocket client:
//!
//! ```js
//! const socket = new PartySocket({ host: "127.0.0.1:1999", room: "lobby" });
//! ```
//!
//! # Rooms and addresses
//!
//! A *party* is a kind of room, registered under a name. A *room* is one instance of it, named by its id. A
//! *connection* is one WebSocket of a room.
//!
//! | URL | leads to |
//! |---|---|
//! | `/parties/main/lobby` | the room `lobby` of the party `main` |
//! | `/parties/chat/42/history?limit=5` | the room `42` of the party `chat`, which sees the rest of the path |
//! | `/health` | no room: the runtime's fallback answers |
//!
//! A WebSocket goes to [`on_connect`](Server::on_connect), any other request to
//! [`on_request`](Server::on_request). A room is made when it is first used. Two hooks run before the room is
//! asked, and need no room: [`on_before_connect`](Server::on_before_connect) and
//! [`on_before_request`](Server::on_before_request). They let a request through or answer it. This is the place
//! to check who the user is:
//!
//! ```
//! use partykit::{Admission, Admit, Lobby, Reject, Request, RequestExt, Result, Server};
//!
//! struct Members;
//!
//! impl Server for Members {
//!     async fn on_before_connect(request: Request, lobby: &Lobby) -> Result<Admit> {
//!         let token = request.query("token").unwrap_or_default();
//!         if Some(token) != lobby.var("TOKEN") {
//!             return Err(Reject::unauthorized("log in first").into());
//!         }
//!         Ok(Admit::Continue(Admission::new(request)))
//!     }
//! }
//! ```
//!
//! # Handlers
//!
//! The handlers of a room run one after another, in the order of the events. Different rooms run in parallel.
//! Each handler is a transaction: if it fails, its writes are undone, and nothing that it sent after its first
//! write leaves. [`Room`] is the room as a handler sees it, [`Connection`] is one WebSocket.
//!
//! | to | call |
//! |---|---|
//! | send to one client | [`Connection::send`], [`Connection::send_json`] |
//! | send to all, or to some | [`Room::broadcast`], [`Room::broadcast_json`], then [`except`](room::Broadcast::except) or [`tag`](room::Broadcast::tag) |
//! | know who is here | [`Room::connections`], [`Room::states`], [`Room::count`] |
//! | close a connection | [`Connection::close`] |
//! | ask or tell another room | [`Room::party`] |
//!
//! # State and storage
//!
//! | what | where | lives as long as |
//! |---|---|---|
//! | what belongs to a room | [`Storage`], rows of a key and a value | you keep it: it survives crashes |
//! | what belongs to a connection | [`Connection::set_state`] | the socket, through every sleep |
//! | a cache | fields of your server | the instance: until the room sleeps or a handler fails |
//!
//! Writes are synchronous and belong to the handler's transaction. A frame or a response that follows a write
//! leaves when that write is on disk, so what a client was told is never lost.
//!
//! ```
//! use partykit::{Connection, List, Message, Request, Result, Room, Server};
//!
//! #[derive(Default)]
//! struct Guestbook;
//!
//! impl Server for Guestbook {
//!     async fn on_connect(&mut self, room: &Room, connection: &Connection, _: &Request) -> Result {
//!         let latest = List::new().prefix("entry:").reverse().limit(20);
//!         connection.send_json(&room.storage().list::<String>(latest).await?)?;
//!         Ok(())
//!     }
//!
//!     async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
//!         room.storage().append("entry:", message.text()?).await?; // the next key, in order
//!         sender.set_state(&"has signed")?; // survives every sleep
//!         room.broadcast(message).send(); // leaves when the entry is stored
//!         Ok(())
//!     }
//! }
//! ```
//!
//! # Hibernation
//!
//! With [`Options::hibernate`], a room sleeps after ten seconds without an event. Its instance is dropped, its
//! sockets stay open. The next event makes a new instance, which runs [`on_start`](Server::on_start) first. If
//! your server has fields, fill them there:
//!
//! ```
//! use partykit::{Connection, Message, Options, Result, Room, Server};
//!
//! #[derive(Default)]
//! struct Clicks {
//!     total: u64,
//! }
//!
//! impl Server for Clicks {
//!     fn options() -> Options {
//!         Options::new().hibernate(true)
//!     }
//!
//!     async fn on_start(&mut self, room: &Room) -> Result {
//!         self.total = room.storage().get("total").await?.unwrap_or(0);
//!         Ok(())
//!     }
//!
//!     async fn on_message(&mut self, room: &Room, _: &Connection, _: Message) -> Result {
//!         self.total += 1;
//!         room.storage().put("total", &self.total)?;
//!         room.broadcast_json(&self.total)?.send();
//!         Ok(())
//!     }
//! }
//! ```
//!
//! Pings, Closes and an application's own ping ([`Options::auto_response`]) are answered without waking the
//! room. A task or a guard ([`Room::keep_awake`]) keeps it awake.
//!
//! # Errors
//!
//! A handler returns a [`Result`]; any error will do. What happens then:
//!
//! | the handler | its writes | the instance | the client sees |
//! |---|---|---|---|
//! | returns a [`Reject`] | undone | stays | the status and the text; after `on_connect` a close code |
//! | returns another `Err`, and has written nothing | none | stays | 500 or 1011 with an error id, or nothing |
//! | returns another `Err` after a write, panics, or takes too long | undone | is dropped; the sockets stay | the same |
//!
//! A [`Reject`] says that the client was wrong, and is not a failure. Reading what a client sent returns one by
//! itself:
//!
//! ```
//! use partykit::{Reject, Request, RequestExt, Response, ResponseExt, Result, Room, Server};
//!
//! #[derive(serde::Deserialize)]
//! struct Order {
//!     count: u32,
//! }
//!
//! struct Shop;
//!
//! impl Server for Shop {
//!     async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
//!         let order: Order = request.json()?; // no JSON of this shape: the client gets a 400
//!         let left: u32 = room.storage().get("left").await?.unwrap_or(10);
//!         let left = left.checked_sub(order.count).ok_or_else(|| Reject::conflict("not enough left"))?;
//!         room.storage().put("left", &left)?;
//!         Ok(Response::json(&left)?)
//!     }
//! }
//! ```
//!
//! All other errors stay on the server: the log has them with the error id, and
//! [`on_error`](Server::on_error) is told. The module [`error`] has the error types.
//!
//! # Alarms and tasks
//!
//! [`Storage::set_alarm`] calls [`on_alarm`](Server::on_alarm) at a moment, also after a sleep or a restart. A
//! room has one alarm, which is a part of the handler's transaction. [`Room::spawn`] starts a task beside the
//! room, for work that takes long. Its value comes back to [`on_task`](Server::on_task). A task is lost if the
//! process ends; an alarm is not.
//!
//! # Testing
//!
//! The feature `testing` has rooms without sockets, on a virtual clock. Sleep, crashes and time happen when the
//! test says so:
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use partykit::{Connection, Message, Result, Room, Server, testing::TestRoom};
//!
//! # #[derive(Default)]
//! # struct Relay;
//! # impl Server for Relay {
//! #     fn options() -> partykit::Options {
//! #         partykit::Options::new().hibernate(true)
//! #     }
//! #     async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
//! #         room.broadcast(message).except(sender).send();
//! #         Ok(())
//! #     }
//! # }
//! let room = TestRoom::<Relay>::new();
//! let (ada, bob) = (room.connect("ada").await, room.connect("bob").await);
//! room.hibernate().await.unwrap();
//! ada.send("hello").await;
//! assert_eq!(bob.received(), [Message::from("hello")]);
//! # });
//! ```
//!
//! `testing::transparency` tells whether a server behaves the same whether it slept or not.
//!
//! # Runtimes
//!
//! The same server runs on both, unchanged.
//!
//! * **Tokio** (feature `tokio`, default): [`Runtime`] listens and serves. [`Runtime::builder`] sets limits,
//!   origins, the directory of the store and so on. `server::Handle` reaches rooms from outside: requests,
//!   broadcasts, stats, backups, shutdown. The runtime also mounts in axum and speaks TLS.
//! * **Cloudflare Workers** (feature `workers`): `workers::export!` makes a Worker. Each room is a Durable
//!   Object.
//!
//! # Where things are
//!
//! The root has what handlers and `main` name. Everything else has one place:
//!
//! * [`error`]: what can go wrong, type by type
//! * [`room`]: what the methods of [`Room`] return
//! * [`runtime`]: for those who write a runtime
//! * `server`: the rest of the Tokio runtime, such as `Handle` and `Listener`
//! * [`stats`]: what rooms are doing, and how long they were awake
//! * [`storage`]: backends, the one on disk, and its backups
//! * `testing` and `conformance`: for tests
//! * `workers`: Cloudflare Workers
//! * `yjs`, `presence`, `history`: add-ons
//!
//! # Features
//!
//! * `tokio` (default): [`Runtime`], one binary of your own
//! * `workers`: Cloudflare Workers
//! * `testing`: rooms for tests, and suites for backends
//! * `metrics`: metrics of the Tokio runtime for the crate `metrics`
//! * `tls`: the Tokio runtime speaks TLS by itself
//! * `presence`: who is here
//! * `history`: messages with positions, for clients that come back
//! * `yjs`: rooms that are Yjs documents
//! * `schedules`: what a room does later, by name; with `cron` at the times of cron expressions, with
//!   `cron-zones` in any time zone
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use partykit_core::{
    Admission, Admit, Alarm, Body, BoxError, Close, CloseCode, Connection, ConnectionId, Emitter,
    HandlerError, KeepAwake, List, Lobby, Message, Options, OrReject, Reject, Request, RequestExt,
    Response, ResponseExt, Result, Room, RoomAddress, RoomId, Server, StartReason, Storage,
    TaskResult, Text, Timestamp,
};
#[cfg(feature = "schedules")]
pub use partykit_core::{Cron, Run, When};
#[cfg(feature = "testing")]
pub use partykit_core::{conformance, testing};
#[cfg(all(feature = "tokio", not(target_family = "wasm")))]
pub use partykit_runtime_tokio::Runtime;

/// The crate whose types [`Request`] and [`Response`] are.
pub use http;

/// Cloudflare Workers: [`export!`](workers::export) makes a Worker of parties.
#[cfg(feature = "workers")]
pub use partykit_runtime_workers as workers;

/// What can go wrong. The errors of storage are in [`storage`].
pub mod error {
    pub use partykit_core::{
        CallError, ErrorId, FailureKind, Handler, InvalidClose, InvalidConnectionId, InvalidRoomId,
        JsonError, NoState, Refusal, StateError, TaskError,
    };
    #[cfg(feature = "schedules")]
    pub use partykit_core::{InvalidCron, ScheduleError};
}

/// What the methods of [`Room`] return.
pub mod room {
    pub use partykit_core::{Broadcast, Clock, PartyRef, RoomRef};
    #[cfg(feature = "schedules")]
    pub use partykit_core::{Schedule, Schedules};
}

/// What a runtime needs to run rooms. You do not need it to write a [`Server`].
pub mod runtime {
    pub use partykit_core::{Route, RouteError, RoutePrefix, Vars, runtime::*};
}

/// The Tokio runtime, beside [`Runtime`]: how it is set up, and how a running one is reached.
#[cfg(all(feature = "tokio", not(target_family = "wasm")))]
pub mod server {
    #[cfg(feature = "metrics")]
    pub use partykit_runtime_tokio::metrics;
    pub use partykit_runtime_tokio::{
        Builder, ClientAddress, Handle, Listener, ProxyHeaders, RuntimeService, ServeError, bind,
    };
    #[cfg(unix)]
    pub use partykit_runtime_tokio::{HandOverError, bind_unix};
    #[cfg(feature = "tls")]
    pub use partykit_runtime_tokio::{TlsListener, TlsStream, rustls};
}

/// What rooms are doing, and how long they were awake.
pub mod stats {
    pub use partykit_core::{
        Account, AwakeReason, ConnectionListing, LongestAwake, RoomPhase, RoomStats, TimeAwake,
        WakeCause,
    };
    #[cfg(all(feature = "tokio", not(target_family = "wasm")))]
    pub use partykit_runtime_tokio::{PartyStats, RoomListing, RuntimeStats};
}

/// The backends of [`Storage`]: their contract, the one in memory, and, with the feature `tokio`, the one on
/// disk with its backups.
pub mod storage {
    pub use partykit_core::{
        Backend, BackendError, Batch, Claim, Epoch, KeyRange, MemoryBackend, RowStream,
        StorageError, WakeUp,
    };
    #[cfg(all(feature = "tokio", not(target_family = "wasm")))]
    pub use partykit_runtime_tokio::store::*;
}

/// Compiles the examples of the README.
#[cfg(all(doctest, feature = "tokio", feature = "testing"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Messages with positions: a client that comes back gets what it has missed.
#[cfg(feature = "history")]
pub use partykit_extras::history;
/// Who is here.
#[cfg(feature = "presence")]
pub use partykit_extras::presence;
/// Rooms that are Yjs documents.
#[cfg(feature = "yjs")]
pub use partykit_yjs as yjs;

#[cfg(all(doctest, feature = "tokio", feature = "testing"))]
mod guide;
