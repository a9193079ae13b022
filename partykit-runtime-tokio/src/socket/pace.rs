use std::{net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    Quota, RateLimiter,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};

use super::sweeper::Second;
use crate::{clock::TokioClock, codec::Violation, limits::AddressRate};

/// How fast a client may talk.
#[derive(Clone, Debug)]
pub(crate) struct PaceLimits {
    /// How many Pings and Pongs a client may send in a second of the sweeper's clock: 100. One is enough.
    pub(crate) controls: u16,
    /// Messages of a client, if there is a limit.
    pub(crate) messages: Option<Quota>,
    /// Messages of all clients at an address, if there is a limit.
    pub(crate) by_address: Option<Arc<AddressRate>>,
}

impl PaceLimits {
    /// `messages` is a rate per second and how many may come at once.
    pub(crate) fn new(messages: Option<(NonZeroU32, NonZeroU32)>) -> Self {
        let quota = |(rate, burst)| Quota::per_second(rate).allow_burst(burst);
        Self { controls: 100, messages: messages.map(quota), by_address: None }
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
pub(super) struct MessageCount {
    own: Option<Bucket>,
    /// Where the client is, if it is known and counts.
    address: Option<(Arc<AddressRate>, IpAddr)>,
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>;

impl MessageCount {
    pub(super) fn new(limits: &PaceLimits, address: Option<IpAddr>) -> Self {
        let bucket =
            |quota| RateLimiter::new(quota, InMemoryState::default(), TokioClock::default());
        Self { own: limits.messages.map(bucket), address: limits.by_address.clone().zip(address) }
    }

    /// Counts a message.
    ///
    /// # Errors
    ///
    /// When it is one too many.
    pub(super) fn add(&self) -> Result<(), Violation> {
        let own = self.own.as_ref().map_or(Ok(()), |own| own.check().map_err(drop));
        let address = self
            .address
            .as_ref()
            .map_or(Ok(()), |(rate, address)| rate.count(*address).map_err(drop));
        own.and(address).map_err(|()| Violation::TooManyMessages)
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
        let count = MessageCount::new(&limits, None);
        let burst = || (0..20).take_while(|_| count.add().is_ok()).count();
        assert_eq!(burst(), 12);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(burst(), 5);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(burst(), 12);
    }

    #[tokio::test(start_paused = true)]
    async fn clients_at_one_address_share_its_rate() {
        let quota = Quota::per_second(NonZeroU32::new(4).unwrap());
        let by_address = Some(Arc::new(AddressRate::new(quota)));
        let limits = PaceLimits { by_address, ..PaceLimits::new(None) };
        let at = |last| MessageCount::new(&limits, Some(IpAddr::from([10, 0, 0, last])));
        let (ada, bob, eve) = (at(1), at(1), at(2));
        for client in [&ada, &bob, &ada, &bob] {
            assert_eq!(client.add(), Ok(()));
        }
        assert_eq!(ada.add(), Err(Violation::TooManyMessages));
        assert_eq!(eve.add(), Ok(()));
        assert_eq!(MessageCount::new(&limits, None).add(), Ok(()), "its address is unknown");
    }
}
