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

#[cfg(feature = "testing")]
pub mod conformance;
mod connection;
mod driver;
mod engine;
mod machine;
pub mod runtime;
mod storage;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod user;
mod value;

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

pub use connection::{Connection, StateError, listing::ConnectionListing};
pub use engine::call_error::CallError;
pub use machine::{
    Account, AwakeReason, HandlerError, LongestAwake, RoomPhase, RoomStats, StartReason, TimeAwake,
    WakeCause,
};
pub use storage::{
    Backend, BackendError, Batch, Claim, Epoch, KeyRange, List, MemoryBackend, StorageError, WakeUp,
};
pub use user::{
    broadcast::Broadcast,
    calls::{PartyRef, RoomRef},
    clock::Clock,
    lobby::{Admission, Admit, Lobby, Vars},
    room::Room,
    row_stream::RowStream,
    server::Server,
    storage::Storage,
    task::{Emitter, KeepAwake},
};
pub use value::{
    address::{InvalidRoomId, RoomAddress, RoomId},
    alarm::Alarm,
    app_state::NoState,
    close::{Close, CloseCode, InvalidClose},
    connection_id::{ConnectionId, InvalidConnectionId},
    error_id::ErrorId,
    failure::FailureKind,
    handler::Handler,
    http::{Body, Request, RequestExt, Response},
    json::JsonError,
    message::{Message, Text},
    options::Options,
    refusal::Refusal,
    reject::{OrReject, Reject},
    respond::ResponseExt,
    route::{Route, RouteError, RoutePrefix},
    task_result::{TaskError, TaskResult},
    time::Timestamp,
};
#[cfg(feature = "schedules")]
pub use {
    user::schedules::{ScheduleError, Schedules},
    value::{
        cron::{Cron, InvalidCron},
        run::{Run, Schedule},
        when::When,
    },
};
