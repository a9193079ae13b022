use std::{fmt, net::IpAddr, num::NonZeroU32, sync::Arc};

use governor::Quota;
use http::request::Parts;
use partykit_core::runtime::front::Refused;

use super::AddressRate;
use crate::ClientAddress;

/// Returns the client's address from the head of its request.
pub(crate) type AddressOf = Arc<dyn Fn(&Parts) -> Option<IpAddr> + Send + Sync>;

/// Limits how many rooms an address may bring into memory.
pub(crate) struct RoomRate {
    limit: Option<AddressRate>,
    address: AddressOf,
}

impl RoomRate {
    pub(crate) fn new(per_minute: Option<NonZeroU32>, address: AddressOf) -> Self {
        let limit = per_minute.map(|rate| AddressRate::new(Quota::per_minute(rate)));
        Self { limit, address }
    }

    /// Where the client is.
    pub(crate) fn client(&self, head: &Parts) -> Option<IpAddr> {
        (self.address)(head)
    }

    /// The client's address, if this limit is on.
    pub(crate) fn address(&self, head: &Parts) -> Option<IpAddr> {
        self.limit.is_some().then(|| self.client(head)).flatten()
    }

    /// Counts a room.
    ///
    /// # Errors
    ///
    /// When the room is over the limit.
    pub(crate) fn count(&self, address: Option<IpAddr>) -> Result<(), Refused> {
        let (Some(limit), Some(address)) = (&self.limit, address) else { return Ok(()) };
        limit.count(address).map_err(|wait| Refused::TooManyNewRooms(address, wait))
    }
}

/// The address of the peer, or the one that a trusted proxy names.
pub(crate) fn known(head: &Parts) -> Option<IpAddr> {
    head.extensions.get::<ClientAddress>().map(|ClientAddress(address)| *address)
}

impl fmt::Debug for RoomRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomRate").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_room_too_many_may_come_back_later() {
        let rate = RoomRate::new(NonZeroU32::new(2), Arc::new(known));
        let one = Some(IpAddr::from([10, 0, 0, 1]));
        assert!(rate.count(one).is_ok() && rate.count(one).is_ok());
        let refused = rate.count(one).unwrap_err().into_response();
        assert_eq!(refused.status().as_u16(), 429);
        assert_eq!(refused.headers()["retry-after"], "30");
        assert!(rate.count(None).is_ok(), "its address is unknown");
    }
}
