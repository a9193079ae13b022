use std::{fmt, io};

use partykit_core::{Handler, RoomAddress};

/// Why a [hand-over](crate::Handle::hand_over) was given up. The process goes on as before, with all of its
/// connections.
///
/// ```
/// use partykit_runtime_tokio::{HandOverError, Runtime};
/// # use partykit_core::Server;
/// # #[derive(Default)]
/// # struct Chat;
/// # impl Server for Chat {}
///
/// # #[tokio::main]
/// # async fn main() -> partykit_core::Result {
/// let runtime = Runtime::builder().party::<Chat>("chat").in_memory().build()?;
/// let error = runtime.handle().hand_over().await.unwrap_err();
/// assert!(matches!(error, HandOverError::NotServing), "it listens nowhere");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandOverError {
    /// The runtime has no listener that another process could go on with: it does not serve, or is a part of
    /// another server.
    #[error("the runtime has no listener that it could hand over")]
    NotServing,
    /// Another hand-over is under way.
    #[error("another hand-over is under way")]
    UnderWay,
    /// The runtime shuts down, or was handed over.
    #[error("the runtime shuts down")]
    ShuttingDown,
    /// This process is the first of its container, which would end with it.
    #[error("this process is number 1 of its container, which would end with it")]
    FirstProcess,
    /// The next process could not be started.
    #[error("the next process cannot be started: {0}")]
    Start(#[source] io::Error),
    /// The next process is of another kind: it speaks another format, lacks a party, or has another store.
    #[error("the next process cannot take over: {0}")]
    Mismatch(String),
    /// Handlers did not end within [`Builder::shutdown_grace`](crate::Builder::shutdown_grace).
    #[error("{} did not end in time", Rooms(.0))]
    Busy(Vec<(RoomAddress, Option<Handler>)>),
    /// The next process failed, ended, or said nothing, before it had everything.
    #[error("the next process failed before it had everything: {0}")]
    Failed(#[source] io::Error),
}

/// Names a few rooms.
struct Rooms<'a>(&'a [(RoomAddress, Option<Handler>)]);

impl fmt::Display for Rooms<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMED: usize = 5;
        for (n, (room, handler)) in self.0.iter().take(NAMED).enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            match handler {
                Some(handler) => write!(f, "{comma}{handler} of {room}")?,
                None => write!(f, "{comma}{room}")?,
            }
        }
        match self.0.len().saturating_sub(NAMED) {
            0 if self.0.is_empty() => f.write_str("a socket"),
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
