use super::RoomCell;
use crate::RoomStats;

impl RoomCell {
    /// The handler that runs, if one does. Wakes no room. Works while the handler blocks its thread.
    pub fn running(&self) -> Option<crate::Handler> {
        self.lock().awake().and_then(|awake| awake.machine.running())
    }

    /// The state of the room. Does not wake it.
    pub fn stats(&self) -> RoomStats {
        let now = self.host().elapsed();
        let mut state = self.lock();
        let mut stats = state.stats(now);
        let sockets: Vec<_> = state.with_records(self.address.room(), |records| {
            records.all().filter_map(|record| record.socket().cloned()).collect()
        });
        // Invariant: a socket's lock is never taken under this one.
        drop(state);
        stats.undelivered_bytes = sockets.iter().map(|socket| socket.queued()).sum();
        stats
    }
}
