use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use super::RoomCell;

impl RoomCell {
    /// Stops the room: refuses what waits and what comes, lets the running handler and its commit end,
    /// wakes no room and runs no `on_close`. The runtime closes the sockets.
    ///
    /// A handler that still runs after `grace` is cancelled and rolled back. A handler that never awaits
    /// cannot be cancelled; then this waits for it.
    pub async fn drain(self: &Arc<Self>, grace: Duration) {
        self.enter(|state, now| state.machine.drain(now, grace));
        poll_fn(|cx| {
            let mut state = self.lock();
            let driven = state.is_driven();
            match state.awake() {
                Some(awake) if driven || !awake.machine.is_at_rest() => {
                    awake.watchers.push(cx.waker().clone());
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
        .await;
    }
}
