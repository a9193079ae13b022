use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, state::keyed::HashMapStateStore,
};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER, request::Parts};
use partykit_core::Response;

use crate::{admission::prefix, answer::answer, clock::TokioClock};

/// Tells at which address a client is, from the head of its request.
pub(crate) type ClientAddress = Arc<dyn Fn(&Parts) -> Option<IpAddr> + Send + Sync>;

/// After so many questions, addresses that have been quiet are forgotten.
const SPRING_CLEAN: u32 = 1024;

/// How many rooms an address may bring into memory.
pub(crate) struct RoomRate {
    limiter: Option<Limiter>,
    address: ClientAddress,
    asked: AtomicU32,
}

type Limiter = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, TokioClock, NoOpMiddleware<Duration>>;

impl RoomRate {
    pub(crate) fn new(per_minute: Option<NonZeroU32>, address: ClientAddress) -> Self {
        let limiter = per_minute.map(|rate| {
            let store = HashMapStateStore::default();
            RateLimiter::new(Quota::per_minute(rate), store, TokioClock::default())
        });
        Self { limiter, address, asked: AtomicU32::new(0) }
    }

    /// Where the client is, if anybody wants to know.
    pub(crate) fn address(&self, head: &Parts) -> Option<IpAddr> {
        self.limiter.is_some().then(|| (self.address)(head)).flatten()
    }

    /// Counts a room.
    ///
    /// # Errors
    ///
    /// 429, when it is one too many.
    pub(crate) fn count(&self, address: Option<IpAddr>) -> Result<(), Response> {
        let (Some(limiter), Some(address)) = (&self.limiter, address) else { return Ok(()) };
        if self.asked.fetch_add(1, Ordering::Relaxed) % SPRING_CLEAN == SPRING_CLEAN - 1 {
            limiter.retain_recent();
        }
        limiter.check_key(&prefix(address)).map_err(|not_until| {
            let wait = not_until.wait_time_from(limiter.clock().now()).as_secs_f64().ceil();
            let mut refusal = answer(StatusCode::TOO_MANY_REQUESTS, "too many new rooms");
            refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait as u64));
            refusal
        })
    }
}

/// The other end of the connection.
pub(crate) fn peer(head: &Parts) -> Option<IpAddr> {
    head.extensions.get::<SocketAddr>().map(SocketAddr::ip)
}

impl fmt::Debug for RoomRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomRate").field("is_limited", &self.limiter.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_address_has_its_minute() {
        let rate = RoomRate::new(NonZeroU32::new(2), Arc::new(peer));
        let one = Some(IpAddr::from([10, 0, 0, 1]));
        let other = Some(IpAddr::from([10, 0, 0, 2]));
        assert!(rate.count(one).is_ok() && rate.count(one).is_ok());
        let refusal = rate.count(one).unwrap_err();
        assert_eq!(
            (refusal.status().as_u16(), &refusal.headers()["retry-after"]),
            (429, &"30".parse().unwrap())
        );
        assert!(rate.count(other).is_ok());
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(rate.count(one).is_ok() && rate.count(one).is_err());
        assert!(rate.count(None).is_ok(), "nobody knows where it is");
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_addresses_are_forgotten() {
        let rate = RoomRate::new(NonZeroU32::new(60), Arc::new(peer));
        for n in 0..SPRING_CLEAN - 1 {
            assert!(rate.count(Some(IpAddr::from(n.to_be_bytes()))).is_ok());
        }
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(rate.count(Some(IpAddr::from([255, 0, 0, 1]))).is_ok());
        assert_eq!(rate.limiter.unwrap().len(), 1);
    }
}
