use std::{
    fmt,
    net::IpAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, state::keyed::HashMapStateStore,
};

use crate::{admission::prefix, clock::TokioClock};

/// After so many questions, addresses that have been quiet are forgotten.
const SPRING_CLEAN: u32 = 1024;

/// How often something may happen at the wish of each address. All clients of an IPv6 network of 64 bits
/// are one.
pub(crate) struct AddressRate {
    limiter: Limiter,
    asked: AtomicU32,
}

type Limiter = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, TokioClock, NoOpMiddleware<Duration>>;

impl AddressRate {
    pub(crate) fn new(quota: Quota) -> Self {
        let limiter = RateLimiter::new(quota, HashMapStateStore::default(), TokioClock::default());
        Self { limiter, asked: AtomicU32::new(0) }
    }

    /// Counts one.
    ///
    /// # Errors
    ///
    /// How long to wait, when it is one too many.
    pub(crate) fn count(&self, address: IpAddr) -> Result<(), Duration> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % SPRING_CLEAN == SPRING_CLEAN - 1 {
            self.limiter.retain_recent();
        }
        let wait =
            |not_until: governor::NotUntil<_>| not_until.wait_time_from(self.limiter.clock().now());
        self.limiter.check_key(&prefix(address)).map_err(wait)
    }
}

impl fmt::Debug for AddressRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressRate").field("addresses", &self.limiter.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn a_minute(times: u32) -> AddressRate {
        AddressRate::new(Quota::per_minute(NonZeroU32::new(times).unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn each_address_has_its_minute() {
        let rate = a_minute(2);
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert!(rate.count(one).is_ok() && rate.count(one).is_ok());
        assert_eq!(rate.count(one), Err(Duration::from_secs(30)));
        assert!(rate.count(other).is_ok());
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(rate.count(one).is_ok() && rate.count(one).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_addresses_are_forgotten() {
        let rate = a_minute(60);
        for n in 0..SPRING_CLEAN - 1 {
            assert!(rate.count(IpAddr::from(n.to_be_bytes())).is_ok());
        }
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(rate.count(IpAddr::from([255, 0, 0, 1])).is_ok());
        assert_eq!(rate.limiter.len(), 1);
    }
}
