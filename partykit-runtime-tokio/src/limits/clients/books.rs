use std::{collections::HashMap, net::IpAddr};

use tokio::sync::oneshot;

use super::place::Evicted;
use crate::crowd::{Crowd, Ticket};

/// Which clients have a place.
#[derive(Default)]
pub(super) struct Books {
    /// The clients that have a place, and how many of them each address has.
    pub(super) clients: usize,
    pub(super) addresses: HashMap<IpAddr, usize>,
    /// Those of them that have not sent a whole request yet.
    pub(super) unheard: Crowd<Unheard>,
    /// Those of them that came when their address had its share already.
    pub(super) lent: Crowd<Evict>,
    /// The clients in the reserve, and those of them that have not sent a whole request yet.
    pub(super) late: usize,
    pub(super) late_unheard: Crowd<Evict>,
}

/// Tells a client that it has to go.
pub(super) type Evict = oneshot::Sender<()>;

impl Books {
    fn at(&self, address: Option<IpAddr>) -> usize {
        address.and_then(|address| self.addresses.get(&address)).copied().unwrap_or(0)
    }

    /// Whether an address has fewer than `share` places. Clients without an address always have theirs.
    pub(super) fn has_share(&self, address: Option<IpAddr>, share: usize) -> bool {
        self.at(address) < share
    }

    /// Takes a client in, if its address [has its share](Self::has_share). Returns whether it has.
    pub(super) fn enter_share(&mut self, address: Option<IpAddr>, share: usize) -> bool {
        if let Some(address) = address {
            // A new address is not noted if it may have no place at all.
            match self.addresses.get_mut(&address) {
                Some(count) if *count < share => *count += 1,
                None if share > 0 => drop(self.addresses.insert(address, 1)),
                _ => return false,
            }
        } else if share == 0 {
            return false;
        }
        self.clients += 1;
        true
    }

    pub(super) fn enter(&mut self, address: Option<IpAddr>) {
        self.clients += 1;
        if let Some(address) = address {
            *self.addresses.entry(address).or_default() += 1;
        }
    }

    pub(super) fn leave(&mut self, address: Option<IpAddr>) {
        self.clients -= 1;
        let Some(address) = address else { return };
        if let Some(count) = self.addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
    }

    /// Takes the place of a client that has not sent its request. Returns whether there was such a client.
    pub(super) fn evict_one(&mut self) -> bool {
        let Some((address, unheard)) = self.unheard.evict() else { return false };
        self.evict(address, unheard);
        true
    }

    /// The same at one address.
    pub(super) fn evict_at(&mut self, address: Option<IpAddr>) -> bool {
        let Some(unheard) = self.unheard.evict_at(address) else { return false };
        self.evict(address, unheard);
        true
    }

    fn evict(&mut self, address: Option<IpAddr>, Unheard { evict, loan }: Unheard) {
        // Its place must not be called back a second time.
        loan.and_then(|loan| self.lent.leave(loan));
        self.leave(address);
        let _ = evict.send(());
    }

    /// The same in the reserve.
    pub(super) fn evict_late(&mut self) -> bool {
        let Some((_, evict)) = self.late_unheard.evict() else { return false };
        self.late -= 1;
        let _ = evict.send(());
        true
    }

    /// Lends a place that another address may need later.
    pub(super) fn lend(&mut self, address: Option<IpAddr>) -> Loan {
        let (evict, evicted) = oneshot::channel();
        Loan { ticket: self.lent.join(address, 1, evict), evicted: Evicted::new(evicted) }
    }

    /// Takes a lent place back from the address that has most above its share. Returns whether there was one.
    pub(super) fn call_back(&mut self, share: usize) -> bool {
        let mut borrowers = self.lent.addresses();
        let Some(address) = borrowers.find(|address| self.at(*address) > share) else {
            return false;
        };
        drop(borrowers);
        let Some(evict) = self.lent.evict_at(address) else { return false };
        self.leave(address);
        let _ = evict.send(());
        true
    }
}

/// A client that has not sent its whole request yet.
pub(super) struct Unheard {
    pub(super) evict: Evict,
    /// Set if its place is lent, too.
    pub(super) loan: Option<Ticket>,
}

/// A place that is called back when another address needs it.
pub(super) struct Loan {
    pub(super) ticket: Ticket,
    pub(super) evicted: Evicted,
}
