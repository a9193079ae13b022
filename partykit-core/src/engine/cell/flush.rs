//! Waiting until what was said in a room has left it.

use std::task::{Context, Poll};

use super::RoomCell;

impl RoomCell {
    /// Ready when all has left the room that was said in it, but what waits for a commit.
    pub(crate) fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.flushing && !state.machine.is_unflushed() {
            return Poll::Ready(());
        }
        if !state.watchers.iter().any(|known| known.will_wake(cx.waker())) {
            state.watchers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
