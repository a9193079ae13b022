use std::time::Duration;

use governor::clock::Clock;
use tokio::time::Instant;

/// Tokio's clock, which a test can pause, for rates.
#[derive(Clone, Debug)]
pub(crate) struct TokioClock(Instant);

impl Default for TokioClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
