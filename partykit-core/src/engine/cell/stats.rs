use super::RoomCell;
use crate::{Connection, RoomStats};

impl RoomCell {
    /// The handler that runs, if one does. Wakes no room. Works while the handler blocks its thread.
    pub fn running(&self) -> Option<crate::Handler> {
        self.lock().machine.running()
    }

    /// The state of the room. Does not wake it.
    pub fn stats(&self) -> RoomStats {
        let now = self.host.elapsed();
        let mut state = self.lock();
        let mut stats = state.machine.stats(now);
        let sockets: Vec<Connection> =
            state.machine.roster().every().map(|(it, _)| it.clone()).collect();
        // Invariant: a socket's lock is never taken under this one.
        drop(state);
        stats.undelivered_bytes =
            sockets.iter().map(|connection| connection.socket().queued()).sum();
        stats
    }
}
