//! What a [PartyKit](https://docs.partykit.io) room is, without a runtime: the [`Server`] trait that
//! users implement, what its handlers are given, and the machine behind every runtime.
//!
//! Depend on the crate `partykit` instead, which re-exports all of this beside a runtime. This crate is
//! for parties that are shared between programs, for storage [backends](Backend), and for
//! [runtimes](runtime).
//!
//! There is no clock in here, no socket, no random source and no executor: a runtime gives all of that,
//! and tests give it deterministically. It compiles for `wasm32-unknown-unknown`.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod alarm;
mod answer;
mod attachment;
mod broadcast;
mod calls;
mod cell;
mod close;
#[cfg(feature = "testing")]
pub mod conformance;
mod connection;
mod connection_id;
mod driver;
mod error;
mod fact;
mod host;
mod http;
mod limits;
mod lobby;
mod machine;
mod mailboxes;
mod message;
mod options;
mod origins;
mod pump;
mod room;
mod route;
mod scope;
mod server;
mod splitmix;
mod storage;
mod sync;
mod task;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod time;
mod turn;
mod wake_once;

/// Any error, as handlers return it.
///
/// ```
/// use partykit_core::BoxError;
///
/// let error: BoxError = "no such move".into();
/// assert_eq!(error.to_string(), "no such move");
/// ```
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What handlers return. The error type is a parameter, so that a `Result<u32, MyError>` still means
/// what it says where this name is imported.
///
/// ```
/// use partykit_core::Result;
///
/// fn handler() -> Result {
///     let number: u32 = "12".parse()?;
///     assert_eq!(number, 12);
///     Ok(())
/// }
/// # handler().unwrap();
/// ```
pub type Result<T = (), E = BoxError> = std::result::Result<T, E>;

pub use address::{InvalidRoomId, RoomAddress, RoomId};
pub use alarm::Alarm;
pub use broadcast::Broadcast;
pub use calls::{PartyRef, RoomRef};
pub use cell::{RoomPhase, RoomStats};
pub use close::{Close, CloseCode, InvalidClose};
pub use connection::{Connection, StateError};
pub use connection_id::{ConnectionId, InvalidConnectionId};
pub use error::{CallError, ErrorId, FailureKind, Handler, HandlerError, Refusal};
pub use http::{Body, Request, RequestExt, Response};
pub use lobby::{Admission, Admit, Lobby, Vars};
pub use machine::{Account, AwakeReason, LongestAwake, StartReason, TimeAwake, WakeCause};
pub use message::{Message, Text};
pub use options::Options;
pub use room::Room;
pub use route::{Route, RouteError, RoutePrefix};
pub use server::Server;
pub use storage::{
    Backend, BackendError, Batch, Claim, Epoch, FaultyBackend, KeyRange, List, MemoryBackend,
    RowStream, Storage, StorageError, WakeUp,
};
pub use task::{Emitter, KeepAwake, TaskError, TaskResult};
pub use time::Timestamp;

/// What a runtime needs to run rooms: it gives a [`Host`](runtime::Host) and the
/// [`Socket`](runtime::Socket)s, keeps a [`RoomCell`](runtime::RoomCell) for each room, tells it what
/// happens, and runs [`drive`](runtime::drive) when asked to.
pub mod runtime {
    pub use crate::alarm::{AlarmState, describe_row, read_alarm};
    pub use crate::answer::{INTERNAL_HEADERS, answer, failure, fit, strip_internal};
    pub use crate::attachment::{Attachment, AttachmentError};
    pub use crate::calls::Chain;
    pub use crate::cell::{Resumed, RoomCell};
    pub use crate::driver::drive;
    pub use crate::fact::Fact;
    pub use crate::host::{Host, Outgoing, Socket};
    pub use crate::mailboxes::Mailboxes;
    pub use crate::origins::{InvalidOrigin, Origins, Visitor, parse_host};
}
