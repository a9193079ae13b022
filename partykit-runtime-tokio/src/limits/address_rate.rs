use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, state::keyed::HashMapStateStore,
};

use crate::{clock::TokioClock, limits::prefix};

/// After this many calls, addresses that have been quiet are forgotten.
const SPRING_CLEAN: u32 = 1024;

/// At most this many addresses are counted one by one. Each needs some 64 bytes, and one IPv6 network has
/// billions of addresses.
const MOST: usize = 65_536;
const DOUBLE: usize = 2 * MOST;

/// Limits how often each address may cause something. All clients in the same 64 bits of IPv6 are one
/// address.
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

    /// Counts one event of an address.
    ///
    /// # Errors
    ///
    /// How long to wait, when the event is over the limit.
    pub(crate) fn count(&self, address: IpAddr) -> Result<(), Duration> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % SPRING_CLEAN == SPRING_CLEAN - 1 {
            self.limiter.retain_recent();
        }
        let wait =
            |not_until: governor::NotUntil<_>| not_until.wait_time_from(self.limiter.clock().now());
        self.limiter.check_key(&self.key(address)).map_err(wait)
    }

    /// What counts as one address. When there are too many addresses, whole networks of providers count as
    /// one: 32 bits of IPv6, 16 bits of IPv4. When there are too many of these, all further ones count
    /// together.
    fn key(&self, address: IpAddr) -> IpAddr {
        match (self.limiter.len(), prefix(address)) {
            (..MOST, address) => address,
            (..DOUBLE, IpAddr::V6(address)) => {
                Ipv6Addr::from_bits((address.to_bits() >> 96) << 96).into()
            }
            (..DOUBLE, IpAddr::V4(address)) => {
                Ipv4Addr::from_bits((address.to_bits() >> 16) << 16).into()
            }
            _ => Ipv6Addr::UNSPECIFIED.into(),
        }
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

    /// A client that has a network of 32 bits does not fill the memory, and others still have their own rate.
    #[tokio::test(start_paused = true)]
    async fn a_network_of_addresses_takes_little_memory() {
        let rate = a_minute(60);
        let known = IpAddr::from([10, 0, 0, 1]);
        let at = |n: u128| Ipv6Addr::from_bits((0x2001_0db8 << 96) | ((n + 1) << 64)).into();
        for n in 0..2 * MOST as u128 {
            assert!(n >= MOST as u128 || rate.count(at(n)).is_ok());
            let _ = rate.count(at(n));
        }
        assert_eq!(rate.limiter.len(), MOST + 1, "one for all that came later");
        assert!(rate.count(at(1 << 31)).is_err(), "which have one rate together");
        assert!(rate.count(known).is_ok());
    }
}
