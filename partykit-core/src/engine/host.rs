use std::{future::poll_fn, mem, sync::Arc, task::Poll, time::Duration};

use futures_core::future::BoxFuture;

use super::cell::RoomCell;
use crate::{
    Backend, CallError, Handler, Request, Response, RoomAddress, Timestamp,
    machine::{Fact, Mailboxes},
    value::{app_state::AppState, chain::Chain},
};

/// What a runtime gives to its rooms: time, chance, named values, storage, timers, tasks, and the way
/// to other rooms. One for all rooms of a runtime.
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
    /// A monotonic clock: the time since an origin of the runtime's choosing.
    fn elapsed(&self) -> Duration;

    /// What [`Host::elapsed`] showed when this process began to run rooms: an alarm in which an earlier
    /// process has ended is left alone for a while after that. The origin of the clock unless implemented.
    fn started(&self) -> Duration {
        Duration::ZERO
    }

    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Fills `bytes` with random ones, good enough for ids that must not be guessed.
    fn random(&self, bytes: &mut [u8]);

    /// A named value: an environment variable, a secret.
    fn var(&self, name: &str) -> Option<String>;

    /// What the application has given the runtime. `None` unless implemented.
    fn app_state(&self) -> Option<&AppState> {
        None
    }

    /// A handler has failed, and says so: for test kits, which have no log. The log has it already. Does
    /// nothing unless implemented.
    fn handler_failed(&self, room: &RoomAddress, handler: Handler, text: &str) {
        let _ = (room, handler, text);
    }

    /// Where the rooms store.
    fn backend(&self) -> &Arc<dyn Backend>;

    /// Ends when [`Host::elapsed`] is `at` or later.
    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()>;

    /// Runs a task of a room to its end, beside the room.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Lets other tasks of this thread run first, and the runtime look at its sockets and timers. A busy
    /// room calls it about every 200 µs. Lets other tasks run unless implemented.
    fn yield_now(&self) -> BoxFuture<'static, ()> {
        Box::pin(yield_now())
    }

    /// Whether very many rooms are in memory. A room that holds nothing (no connection, nothing stored,
    /// nothing that keeps it awake) then goes at once, not after its idle time. Default: `false`.
    fn is_crowded(&self) -> bool {
        false
    }

    /// Counts what waits in the mailboxes of all rooms together. `None`, as it is unless implemented, if only
    /// the limit of each room is to hold.
    fn mailboxes(&self) -> Option<Arc<Mailboxes>> {
        None
    }

    /// Runs [`drive`](crate::runtime::drive) for this room, with the server of its party. Called when
    /// something is to be done and no driver runs, so never twice at once for one room.
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

    /// A commit has ended that says when the room is to be woken: from then on,
    /// [`Backend::wake_ups`] may have an earlier time than before. At that time, or as soon as
    /// possible, the runtime tells the room with [`RoomCell::alarm`].
    ///
    /// Called from the room's driver; it must return at once. Does nothing unless implemented: right
    /// where the backend itself has the room woken.
    fn wake_up(&self, room: &RoomAddress, at: Timestamp) {
        let _ = (room, at);
    }

    /// Whether a room is to wait before it runs its next handler, and for what: the runtime has no
    /// memory left for what rooms say. The time counts as the handler's, so a runtime must let the room
    /// go on after a while. `None` unless implemented: rooms go on at once.
    fn relief(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// Something happened to a room that may be worth counting. Called as it happens, from anywhere,
    /// while the caller may hold locks: it must return at once, and not come back to a room. Does
    /// nothing unless implemented.
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
