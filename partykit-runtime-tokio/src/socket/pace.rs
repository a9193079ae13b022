use std::{net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    Quota, RateLimiter,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};

use partykit_core::runtime::CloseReason;

use super::sweeper::Second;
use crate::{clock::TokioClock, limits::AddressRate};

/// How fast a client may talk.
#[derive(Clone, Debug)]
pub(crate) struct PaceLimits {
    /// How many Pings and Pongs a client may send in one second of the sweeper's clock: 100. A normal client
    /// needs one.
    pub(crate) controls: u16,
    /// The limit for one client. `None` if there is no limit.
    pub(crate) messages: Option<Quota>,
    /// The limit for all clients at one address. `None` if there is no limit.
    pub(crate) by_address: Option<Arc<AddressRate>>,
}

impl PaceLimits {
    /// `messages` is the rate per second and the burst.
    pub(crate) fn new(messages: Option<(NonZeroU32, NonZeroU32)>) -> Self {
        let quota = |(rate, burst)| Quota::per_second(rate).allow_burst(burst);
        Self { controls: 100, messages: messages.map(quota), by_address: None }
    }
}

/// Counts the control frames of one client.
#[derive(Clone, Copy, Default)]
pub(super) struct ControlCount {
    /// The last 16 bits of the second. A larger field would cost each socket eight bytes.
    second: u16,
    count: u16,
}

impl ControlCount {
    /// Counts a Ping or a Pong.
    ///
    /// # Errors
    ///
    /// When it is one too many.
    pub(super) fn add(&mut self, limits: &PaceLimits, now: Second) -> Result<(), CloseReason> {
        let second = (now % (1 << 16)) as u16;
        if self.second != second {
            (self.second, self.count) = (second, 0);
        }
        self.count = self.count.saturating_add(1);
        if self.count > limits.controls { Err(CloseReason::TooManyControls) } else { Ok(()) }
    }
}

/// Counts the messages of one client. Exists from the first message on, in a party with a limit.
pub(super) struct MessageCount {
    own: Option<Bucket>,
    /// The client's address, and the counter of that address. `None` without such a limit, or if the address
    /// is not known.
    address: Option<(Arc<AddressRate>, IpAddr)>,
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>;

impl MessageCount {
    pub(super) fn new(limits: &PaceLimits, address: Option<IpAddr>) -> Self {
        let bucket =
            |quota| RateLimiter::new(quota, InMemoryState::default(), TokioClock::default());
        Self { own: limits.messages.map(bucket), address: limits.by_address.clone().zip(address) }
    }

    /// The address at which the messages count.
    #[cfg(unix)]
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address.as_ref().map(|(_, address)| *address)
    }

    /// Counts a message.
    ///
    /// # Errors
    ///
    /// When it is one too many.
    pub(super) fn add(&self) -> Result<(), CloseReason> {
        let own = self.own.as_ref().map_or(Ok(()), |own| own.check().map_err(drop));
        let address = self
            .address
            .as_ref()
            .map_or(Ok(()), |(rate, address)| rate.count(*address).map_err(drop));
        own.and(address).map_err(|()| CloseReason::TooManyMessages)
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
        assert_eq!(count.add(&limits, 3), Err(CloseReason::TooManyControls));
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
        assert_eq!(ada.add(), Err(CloseReason::TooManyMessages));
        assert_eq!(eve.add(), Ok(()));
        assert_eq!(MessageCount::new(&limits, None).add(), Ok(()), "its address is unknown");
    }
}
