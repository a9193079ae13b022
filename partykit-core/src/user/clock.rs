use std::{fmt, future::Future, sync::Arc, time::Duration};

use crate::{Timestamp, runtime::Host};

/// No timer of any platform is asked for more: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Time for the tasks of a room, made with [`Room::clock`](crate::Room::clock). It is the same on every
/// runtime, and virtual in tests. Clones are the same.
///
/// ```
/// use std::time::Duration;
/// use partykit_core::{Connection, Message, Result, Room, Server};
///
/// struct Countdown;
///
/// impl Server for Countdown {
///     async fn on_message(&mut self, room: &Room, sender: &Connection, _: Message) -> Result {
///         let (clock, sender) = (room.clock(), sender.clone());
///         room.spawn("count down", async move {
///             for left in (0..=3).rev() {
///                 sender.send(left.to_string());
///                 clock.sleep(Duration::from_secs(1)).await;
///             }
///         });
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Clock(Arc<dyn Host>);

impl Clock {
    pub(crate) fn new(host: &Arc<dyn Host>) -> Self {
        Self(host.clone())
    }

    /// The wall clock, as [`Room::now`](crate::Room::now).
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// Waits for this time, or a little longer. It counts from this call, not from the first poll. Zero is no
    /// wait.
    pub fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + use<> {
        self.0.sleep_until(self.0.elapsed() + time.min(LONGEST))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("now", &self.now()).finish_non_exhaustive()
    }
}
