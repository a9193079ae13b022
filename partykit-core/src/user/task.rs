use std::{
    any::Any,
    fmt,
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Poll, ready},
};

use futures_util::FutureExt;

use crate::{
    Refusal, TaskResult, engine::cell::RoomCell, machine::Event, value::failure::panic_message,
};

/// Sends values of a running task to its room: see [`Room::spawn_streaming`](crate::Room::spawn_streaming).
///
/// ```
/// use partykit_core::Room;
///
/// fn count_down(room: &Room) {
///     room.spawn_streaming("count down", async |emitter| {
///         for left in (1..=3).rev() {
///             emitter.emit(left).await;
///         }
///     });
/// }
/// # let _ = count_down;
/// ```
pub struct Emitter {
    cell: Arc<RoomCell>,
    id: u64,
    name: &'static str,
}

impl Emitter {
    pub(crate) fn new(cell: Arc<RoomCell>, id: u64, name: &'static str) -> Self {
        Self { cell, id, name }
    }

    /// Sends a value to the room, as an event of its own. Waits while the room's mailbox is full.
    pub async fn emit<T: Send + 'static>(&self, value: T) {
        let result = TaskResult { name: self.name, value: Ok(Box::new(value)), last: false };
        let mut event = Some(Event::Task { id: self.id, result });
        let waits = Waits { cell: &self.cell, ticket: self.cell.ticket() };
        poll_fn(|cx| {
            while let Some(next) = event.take() {
                match self.cell.task_says(waits.ticket, next) {
                    Err((Refusal::Overloaded, next)) => {
                        let size = next.size();
                        event = Some(next);
                        ready!(self.cell.poll_space_for(waits.ticket, size, cx));
                    }
                    _ => break,
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

/// A value that may have to wait for space in the mailbox.
struct Waits<'a> {
    cell: &'a Arc<RoomCell>,
    ticket: u64,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.cell.forgo(self.ticket);
    }
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter").field("task", &self.name).finish_non_exhaustive()
    }
}

/// A guard that keeps a room awake. Made with [`Room::keep_awake`](crate::Room::keep_awake).
///
/// ```
/// use partykit_core::{Connection, KeepAwake, Message, Result, Room, Server};
///
/// #[derive(Default)]
/// struct Turntable {
///     spinning: Option<KeepAwake>,
/// }
///
/// impl Server for Turntable {
///     async fn on_message(&mut self, room: &Room, _: &Connection, message: Message) -> Result {
///         self.spinning = (message.as_text() == Some("play")).then(|| room.keep_awake("playing"));
///         Ok(())
///     }
/// }
/// ```
#[must_use = "the room may sleep as soon as the guard is dropped"]
pub struct KeepAwake {
    cell: Arc<RoomCell>,
    id: u64,
}

impl KeepAwake {
    /// The guard with this number.
    pub(crate) fn new(cell: Arc<RoomCell>, id: u64) -> Self {
        Self { cell, id }
    }
}

impl Drop for KeepAwake {
    fn drop(&mut self) {
        self.cell.outside(|machine, now| machine.guard_dropped(now, self.id));
    }
}

impl fmt::Debug for KeepAwake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepAwake").field("room", self.cell.address()).finish_non_exhaustive()
    }
}

/// Runs a task to its end and reports it to the room.
pub(crate) async fn run<T: Send + 'static>(
    cell: Arc<RoomCell>,
    id: u64,
    name: &'static str,
    work: impl Future<Output = T> + Send,
) {
    let value = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(value) => Ok(Box::new(value) as Box<dyn Any + Send>),
        Err(payload) => Err(panic_message(payload)),
    };
    if let Err(message) = &value {
        let (party, room) = (cell.address().party(), cell.address().room().as_str());
        let error = message.as_str();
        tracing::error!(party, room, task = name, error, "a task panicked");
    }
    let result = TaskResult { name, value, last: true };
    cell.task_ended(id, Event::Task { id, result });
}
