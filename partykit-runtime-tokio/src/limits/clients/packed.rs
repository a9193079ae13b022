use std::net::{IpAddr, Ipv6Addr};

use super::prefix;

/// The [`prefix`] of an address, in 9 bytes. All idle WebSockets have one.
#[derive(Clone, Copy)]
pub(crate) enum Packed {
    Unknown,
    V4([u8; 4]),
    /// The first half. The second one is zero.
    V6([u8; 8]),
}

impl From<Option<IpAddr>> for Packed {
    fn from(address: Option<IpAddr>) -> Self {
        match address.map(prefix) {
            None => Self::Unknown,
            Some(IpAddr::V4(v4)) => Self::V4(v4.octets()),
            Some(IpAddr::V6(v6)) => Self::V6(((v6.to_bits() >> 64) as u64).to_be_bytes()),
        }
    }
}

impl Packed {
    pub(crate) fn address(self) -> Option<IpAddr> {
        match self {
            Self::Unknown => None,
            Self::V4(v4) => Some(v4.into()),
            Self::V6(half) => {
                Some(Ipv6Addr::from_bits(u128::from(u64::from_be_bytes(half)) << 64).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_as_its_prefix() {
        for text in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8:1:2:3:4:5:6", "::1", "::"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(Packed::from(Some(address)).address(), Some(prefix(address)), "{text}");
        }
        assert_eq!(Packed::from(None).address(), None);
        assert!(size_of::<Option<Packed>>() <= 9, "each idle WebSocket has one");
    }
}
