//! What a room is.
#![forbid(unsafe_code)]

mod address;
mod close;
#[cfg(feature = "testing")]
pub mod conformance;
mod connection_id;
mod http;
mod lobby;
mod message;
mod route;
mod splitmix;
mod storage;

/// Any error, as handlers return it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What handlers return. The error type is a parameter, so that a `Result<u32, MyError>` still means
/// what it says where this name is imported.
pub type Result<T = (), E = BoxError> = std::result::Result<T, E>;

pub use address::{InvalidRoomId, RoomAddress, RoomId};
pub use close::{Close, CloseCode, InvalidClose};
pub use connection_id::{ConnectionId, InvalidConnectionId};
pub use http::{Body, Request, RequestExt, Response};
pub use lobby::{Admission, Admit, Lobby, Vars};
pub use message::{Message, Text};
pub use route::{Route, RouteError, RoutePrefix};
pub use storage::{
    Backend, BackendError, Batch, Claim, Epoch, FaultyBackend, KeyRange, MemoryBackend,
};
