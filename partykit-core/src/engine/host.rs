use std::{future::poll_fn, mem, sync::Arc, task::Poll, time::Duration};

use futures_core::future::BoxFuture;

use super::cell::RoomCell;
use crate::{
    Backend, CallError, Handler, Request, Response, RoomAddress, Timestamp,
    machine::{Fact, Mailboxes},
    value::{app_state::AppState, chain::Chain},
};

/// What a runtime gives to its rooms: time, random bytes, named values, storage, timers, tasks, and calls to
/// other rooms. All rooms of a runtime may share one.
///
/// ```
/// use std::sync::Arc;
/// use partykit_core::runtime::{Host, RoomCell, drive};
/// # use partykit_core::Server;
/// # struct Chat;
/// # impl Server for Chat {}
///
/// /// What `Host::start` of a runtime for one party comes down to.
/// fn start(host: &dyn Host, room: &Arc<RoomCell>) {
///     host.spawn(Box::pin(drive(room.clone(), |_| Chat)));
/// }
/// # let _ = start;
/// ```
pub trait Host: Send + Sync + 'static {
    /// A monotonic clock: the time since a moment that the runtime chooses.
    fn elapsed(&self) -> Duration;

    /// The value of [`Host::elapsed`] when this process began to run rooms. An alarm that has ended an
    /// earlier process does not ring for a while after this. Default: zero.
    fn started(&self) -> Duration {
        Duration::ZERO
    }

    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Fills `bytes` with random bytes, strong enough for ids that must not be guessed.
    fn random(&self, bytes: &mut [u8]);

    /// A named value: an environment variable, a secret.
    fn var(&self, name: &str) -> Option<String>;

    /// The application's values. Default: `None`.
    fn app_state(&self) -> Option<&AppState> {
        None
    }

    /// A handler has failed with this text. For test kits without a log; the log has it already. Default:
    /// does nothing.
    fn handler_failed(&self, room: &RoomAddress, handler: Handler, text: &str) {
        let _ = (room, handler, text);
    }

    /// The backend of all rooms.
    fn backend(&self) -> &Arc<dyn Backend>;

    /// Waits until [`Host::elapsed`] is `at` or later.
    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()>;

    /// Runs a task of a room to its end, beside the room.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Lets other tasks of this thread run, and lets the runtime look at its sockets and timers. A busy room
    /// calls it about every 200 µs. Default: lets other tasks run.
    fn yield_now(&self) -> BoxFuture<'static, ()> {
        Box::pin(yield_now())
    }

    /// Whether a driver that begins to run now was woken when everything that had arrived was given to the
    /// rooms. If so, it begins at once; otherwise it first lets other tasks run, so that events that arrive
    /// together are handled together. Called by the driver. Default: `false`.
    fn is_gathered(&self) -> bool {
        false
    }

    /// Whether very many rooms are in memory. A room that holds nothing (no connection, nothing stored,
    /// nothing that keeps it awake) is then dropped at once, not after its idle time. Default: `false`.
    fn is_crowded(&self) -> bool {
        false
    }

    /// Counts what waits in the mailboxes of all rooms together. Default: `None`; then only the limit of each
    /// room holds.
    fn mailboxes(&self) -> Option<Arc<Mailboxes>> {
        None
    }

    /// Runs [`drive`](crate::runtime::drive) for this room, with the server of its party. Called when there
    /// is something to do and no driver runs. So a room never has two drivers.
    fn start(&self, room: &Arc<RoomCell>);

    /// The room sleeps, and has no connection and no waiting event. The runtime should forget the cell, if
    /// [`RoomCell::is_vacant`] still holds while no other task can reach it: an event for a forgotten cell
    /// would meet a second life of its room.
    fn vacant(&self, room: &Arc<RoomCell>);

    /// Sends a request to another room and waits for its answer.
    fn call(
        &self,
        to: RoomAddress,
        request: Request,
        chain: Chain,
    ) -> BoxFuture<'static, Result<Response, CallError>>;

    /// Sends a request to another room, without an answer.
    fn tell(&self, to: RoomAddress, request: Request);

    /// Whether a party of this name is registered.
    fn knows_party(&self, name: &str) -> bool;

    /// A commit has set when the room is to be woken, so [`Backend::wake_ups`] may have an earlier time than
    /// before. At this time, or as soon as possible after it, the runtime calls [`RoomCell::alarm`].
    ///
    /// Called by the room's driver. It must return at once. Default: does nothing, which is right if the
    /// backend itself wakes the room.
    fn wake_up(&self, room: &RoomAddress, at: Timestamp) {
        let _ = (room, at);
    }

    /// What a room has to wait for before its next handler, because the runtime has no memory left for
    /// outputs. The time counts as the handler's, so a runtime must let the room go on after a while.
    /// Default: `None`; rooms go on at once.
    fn relief(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// Something happened to a room, for counting. Called at that moment, from any thread, and the caller may
    /// hold locks. So it must return at once and must not call a room. Default: does nothing.
    fn observe(&self, room: &RoomAddress, fact: Fact) {
        let _ = (room, fact);
    }
}

/// Lets other tasks run first.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
