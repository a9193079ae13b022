use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};

use super::sweeper::Second;
use crate::{clock::TokioClock, codec::Violation};

/// How fast a client may talk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PaceLimits {
    /// Pings and Pongs in a second of the sweeper's clock. 100: nobody needs more than one.
    pub(crate) controls: u16,
    /// Messages, if there is a limit.
    pub(crate) messages: Option<Quota>,
}

impl PaceLimits {
    /// `messages` is a rate per second and how many may come at once.
    pub(crate) fn new(messages: Option<(NonZeroU32, NonZeroU32)>) -> Self {
        let quota = |(rate, burst)| Quota::per_second(rate).allow_burst(burst);
        Self { controls: 100, messages: messages.map(quota) }
    }
}

/// Counts the control frames of one client.
#[derive(Default)]
pub(super) struct ControlCount {
    /// Its last 16 bits: one byte more would cost every socket eight.
    second: u16,
    count: u16,
}

impl ControlCount {
    /// Counts a Ping or a Pong.
    ///
    /// # Errors
    ///
    /// When it is one too many.
    pub(super) fn add(&mut self, limits: &PaceLimits, now: Second) -> Result<(), Violation> {
        let second = (now % (1 << 16)) as u16;
        if self.second != second {
            (self.second, self.count) = (second, 0);
        }
        self.count = self.count.saturating_add(1);
        if self.count > limits.controls { Err(Violation::TooManyControls) } else { Ok(()) }
    }
}

/// Counts the messages of one client. There from the first message on, in a party with a limit.
pub(super) struct MessageCount(Bucket);

type Bucket = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>;

impl MessageCount {
    pub(super) fn new(limit: Quota) -> Self {
        Self(RateLimiter::new(limit, InMemoryState::default(), TokioClock::default()))
    }

    /// Counts a message.
    ///
    /// # Errors
    ///
    /// When it is one too many.
    pub(super) fn add(&self) -> Result<(), Violation> {
        self.0.check().map_err(|_| Violation::TooManyMessages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_frames_are_counted_by_the_second() {
        let (mut count, limits) = (ControlCount::default(), PaceLimits::new(None));
        for second in 1..4 {
            for _ in 0..100 {
                assert_eq!(count.add(&limits, second), Ok(()));
            }
        }
        assert_eq!(count.add(&limits, 3), Err(Violation::TooManyControls));
    }

    #[tokio::test(start_paused = true)]
    async fn messages_have_a_rate_and_a_burst() {
        let rate = |rate| NonZeroU32::new(rate).unwrap();
        let limits = PaceLimits::new(Some((rate(10), rate(12))));
        let count = MessageCount::new(limits.messages.unwrap());
        let burst = || (0..20).take_while(|_| count.add().is_ok()).count();
        assert_eq!(burst(), 12);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(burst(), 5);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(burst(), 12);
    }
}
