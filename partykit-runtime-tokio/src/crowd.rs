use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

/// Members with weights, at different addresses. When there is no more space, the oldest member of the
/// address with the greatest weight has to go. So a member at an address that uses little is never chosen.
#[derive(Debug)]
pub(crate) struct Crowd<T> {
    addresses: HashMap<Address, Members<T>>,
    /// All addresses, ordered by weight. Among equal weights, the address with the oldest member is last.
    order: BTreeSet<Rank>,
    weight: usize,
    members: usize,
    last: u64,
}

/// `None` stands for all members without an address, such as those of a Unix socket.
pub(crate) type Address = Option<IpAddr>;

type Rank = (usize, Reverse<u64>, Address);

#[derive(Debug)]
struct Members<T> {
    by_age: BTreeMap<u64, (usize, T)>,
    weight: usize,
}

/// A member of a [`Crowd`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    address: Address,
    number: u64,
}

impl<T> Default for Crowd<T> {
    fn default() -> Self {
        Self { addresses: HashMap::new(), order: BTreeSet::new(), weight: 0, members: 0, last: 0 }
    }
}

impl<T> Crowd<T> {
    pub(crate) fn join(&mut self, address: Address, weight: usize, member: T) -> Ticket {
        self.last += 1;
        let number = self.last;
        self.change(address, |members| {
            members.by_age.insert(number, (weight, member));
            members.weight += weight;
        });
        self.weight += weight;
        self.members += 1;
        Ticket { address, number }
    }

    /// Changes the weight of a member. `false` if the member is gone.
    pub(crate) fn weigh(&mut self, ticket: Ticket, weight: usize) -> bool {
        let before = self.addresses.get(&ticket.address);
        let Some((before, _)) = before.and_then(|members| members.by_age.get(&ticket.number))
        else {
            return false;
        };
        let before = *before;
        self.change(ticket.address, |members| {
            if let Some((own, _)) = members.by_age.get_mut(&ticket.number) {
                *own = weight;
            }
            members.weight = members.weight - before + weight;
        });
        self.weight = self.weight - before + weight;
        true
    }

    /// Removes a member. `None` if it is gone already.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<T> {
        let (weight, member) = self.change(ticket.address, |members| {
            let left = members.by_age.remove(&ticket.number)?;
            members.weight -= left.0;
            Some(left)
        })?;
        self.weight -= weight;
        self.members -= 1;
        Some(member)
    }

    /// Removes the oldest member of the address with the greatest weight.
    pub(crate) fn evict(&mut self) -> Option<(Address, T)> {
        let (_, Reverse(number), address) = *self.order.last()?;
        Some((address, self.leave(Ticket { address, number })?))
    }

    /// Removes the oldest member of an address.
    pub(crate) fn evict_at(&mut self, address: Address) -> Option<T> {
        let (number, _) = self.addresses.get(&address)?.by_age.first_key_value()?;
        self.leave(Ticket { address, number: *number })
    }

    /// Whether a member is still there.
    pub(crate) fn has(&self, ticket: Ticket) -> bool {
        let members = self.addresses.get(&ticket.address);
        members.is_some_and(|members| members.by_age.contains_key(&ticket.number))
    }

    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    pub(crate) fn len(&self) -> usize {
        self.members
    }

    /// The addresses of all members.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Address> {
        self.addresses.keys().copied()
    }

    /// The weight of one address.
    pub(crate) fn weight_at(&self, address: Address) -> usize {
        self.addresses.get(&address).map_or(0, |members| members.weight)
    }

    /// Changes the members of an address, and moves the address to its new place in the order.
    fn change<R>(&mut self, address: Address, act: impl FnOnce(&mut Members<T>) -> R) -> R {
        let members = self
            .addresses
            .entry(address)
            .or_insert_with(|| Members { by_age: BTreeMap::new(), weight: 0 });
        if let Some(rank) = members.rank(address) {
            self.order.remove(&rank);
        }
        let result = act(members);
        match members.rank(address) {
            Some(rank) => {
                self.order.insert(rank);
            }
            None => {
                self.addresses.remove(&address);
                if self.addresses.is_empty() {
                    self.addresses.shrink_to_fit();
                }
            }
        }
        result
    }
}

impl<T> Members<T> {
    fn rank(&self, address: Address) -> Option<Rank> {
        let (oldest, _) = self.by_age.first_key_value()?;
        Some((self.weight, Reverse(*oldest), address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> Address {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn the_oldest_of_the_address_with_the_most_goes() {
        let mut crowd = Crowd::default();
        crowd.join(ip(1), 1, "alone");
        for name in ["first", "second", "third"] {
            crowd.join(ip(2), 1, name);
        }
        crowd.join(ip(3), 1, "other");
        let names: Vec<_> = std::iter::from_fn(|| crowd.evict()).map(|(_, name)| name).collect();
        assert_eq!(
            names,
            ["first", "second", "alone", "third", "other"],
            "of equal ones the oldest"
        );
        assert_eq!((crowd.len(), crowd.weight(), crowd.addresses.len()), (0, 0, 0));
    }

    #[test]
    fn weight_counts_and_not_the_number_of_members() {
        let mut crowd = Crowd::default();
        let small = [1, 2, 3].map(|n| crowd.join(ip(1), 10, n));
        let large = crowd.join(ip(2), 10, 4);
        assert_eq!(crowd.evict(), Some((ip(1), 1)));
        assert!(crowd.weigh(large, 21) && !crowd.weigh(small[0], 5));
        assert_eq!((crowd.weight(), crowd.weight_at(ip(2))), (41, 21));
        assert_eq!(crowd.evict(), Some((ip(2), 4)));
        assert_eq!(crowd.leave(large), None);
        assert_eq!(
            (crowd.leave(small[2]), crowd.evict_at(ip(1)), crowd.evict()),
            (Some(3), Some(2), None)
        );
    }
}
