#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use partykit_core::{
    Account, Admission, Admit, Alarm, AwakeReason, Backend, BackendError, Batch, Body, BoxError,
    Broadcast, CallError, Claim, Close, CloseCode, Connection, ConnectionId, Emitter, Epoch,
    ErrorId, FailureKind, FaultyBackend, Handler, HandlerError, InvalidClose, InvalidConnectionId,
    InvalidRoomId, JsonError, KeepAwake, KeyRange, List, Lobby, LongestAwake, MemoryBackend,
    Message, NoState, Options, OrReject, PartyRef, Refusal, Reject, Request, RequestExt, Response,
    ResponseExt, Result, Room, RoomAddress, RoomId, RoomPhase, RoomRef, RoomStats, Route,
    RouteError, RoutePrefix, RowStream, Server, StartReason, StateError, Storage, StorageError,
    TaskError, TaskResult, Text, TimeAwake, Timestamp, Vars, WakeCause, WakeUp,
};
#[cfg(feature = "testing")]
pub use partykit_core::{conformance, testing};
#[cfg(all(feature = "tokio", not(target_family = "wasm")))]
pub use partykit_runtime_tokio::{Durability, Runtime};

/// The crate whose types [`Request`] and [`Response`] are.
pub use http;

/// Cloudflare Workers: [`export!`](workers::export) makes a Worker of parties.
#[cfg(feature = "workers")]
pub use partykit_runtime_workers as workers;

/// The runtimes, each behind the feature of its name.
pub mod runtime {
    /// One self-hosted binary, on Tokio.
    #[cfg(all(feature = "tokio", not(target_family = "wasm")))]
    pub use partykit_runtime_tokio as tokio;
    /// Cloudflare Workers.
    #[cfg(feature = "workers")]
    pub use partykit_runtime_workers as workers;

    pub use partykit_core::runtime::*;
}

/// Rooms that are Yjs documents.
#[cfg(feature = "yjs")]
pub use partykit_yjs as yjs;

#[cfg(all(doctest, feature = "tokio", feature = "testing"))]
mod guide;
