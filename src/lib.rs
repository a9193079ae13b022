//! Rooms by name, WebSockets, durable storage, alarms and **hibernation**, as a library.
//!
//! You write a [`Server`]: what a room does when somebody connects, speaks, leaves or sends an HTTP
//! request. A runtime runs it: on Tokio in a binary of yours ([`Runtime`]), or on Cloudflare Workers (the
//! module `workers`).
//!
//! # A first room
//!
//! This relay sends what a client says to all others. Any PartySocket client can talk to it.
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
//! # Routing
//!
//! A *party* is a kind of room, registered under a name. A *room* is one instance of it, named by its id.
//! `/parties/main/lobby` leads to the room `lobby` of the party `main`: a WebSocket to
//! [`on_connect`](Server::on_connect), any other request to [`on_request`](Server::on_request). The room
//! need not exist before. Two hooks run before that, outside of any room:
//! [`on_before_connect`](Server::on_before_connect) and [`on_before_request`](Server::on_before_request)
//! let a request through, or answer it themselves.
//!
//! # Handlers
//!
//! The handlers of a room run one after another, in the order in which things happened. Each is a
//! transaction: if it fails, nothing of what it wrote stays, and nothing of what it said after its first
//! write leaves. [`Room`] is the room as a handler sees it, [`Connection`] is one WebSocket.
//!
//! What a client did wrongly is no failure of the server: return a [`Reject`].
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
//! # Storage
//!
//! Each room has rows of a key and a value: [`Storage`]. Writes are synchronous and belong to the handler.
//! A frame or a response that follows a write leaves when that write is on disk, so what a client was told
//! is never lost. [`storage`] has what is behind it: the contract of backends, and those that there are.
//!
//! # Hibernation
//!
//! When nothing happens in a room for ten seconds, its instance is dropped and its sockets stay open. The
//! next event makes a new instance, which runs [`on_start`](Server::on_start) first. What has to survive
//! stands in storage, or in the [state](Connection::set_state) of a connection.
//!
//! # Alarms and tasks
//!
//! [`Storage::set_alarm`] has [`on_alarm`](Server::on_alarm) called at a time, also when the process was
//! restarted in between. [`Room::spawn`] starts a task beside the room; its value comes back to
//! [`on_task`](Server::on_task).
//!
//! # Testing
//!
//! The feature `testing` has a room without sockets on a virtual clock. `testing::transparency` tells
//! whether a server behaves the same whether it slept or not.
//!
//! # Where things are
//!
//! The root has what handlers and `main` name. Everything else has one place:
//!
//! * [`error`]: what can go wrong, type by type
//! * [`room`]: what the methods of [`Room`] return
//! * [`runtime`]: for those who write a runtime
//! * `server`: the rest of the Tokio runtime, such as `Handle` and `Listener`
//! * [`stats`]: how rooms are and how they have spent their lives
//! * [`storage`]: backends, the one on disk, and its backups
//! * `testing` and `conformance`: for tests
//! * `workers`: Cloudflare Workers
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
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use partykit_core::{
    Admission, Admit, Alarm, Body, BoxError, Close, CloseCode, Connection, ConnectionId, Emitter,
    HandlerError, KeepAwake, List, Lobby, Message, Options, OrReject, Reject, Request, RequestExt,
    Response, ResponseExt, Result, Room, RoomAddress, RoomId, Server, StartReason, Storage,
    TaskResult, Text, Timestamp,
};
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
}

/// What the methods of [`Room`] return.
pub mod room {
    pub use partykit_core::{Broadcast, Clock, PartyRef, RoomRef};
}

/// What a runtime needs to run rooms. You need nothing of it to write a [`Server`].
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
    #[cfg(feature = "tls")]
    pub use partykit_runtime_tokio::{TlsListener, TlsStream, rustls};
}

/// How rooms are, and how they have spent their lives.
pub mod stats {
    pub use partykit_core::{
        Account, AwakeReason, ConnectionListing, LongestAwake, RoomPhase, RoomStats, TimeAwake,
        WakeCause,
    };
    #[cfg(all(feature = "tokio", not(target_family = "wasm")))]
    pub use partykit_runtime_tokio::{PartyStats, RoomListing, RuntimeStats};
}

/// What is behind a room's [`Storage`]: the contract of backends, the one in memory, and, with the feature
/// `tokio`, the one on disk with its backups.
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
