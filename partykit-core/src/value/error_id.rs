use std::fmt;

/// The id of one failure. It is in the log, and it is all that the client learns about the failure.
///
/// Prints as 16 hexadecimal digits.
///
/// ```
/// use partykit_core::{ErrorId, HandlerError};
///
/// fn ticket(error: &HandlerError) -> String {
///     let id: ErrorId = error.id();
///     format!("please tell us this number: {id}")
/// }
/// # let _ = ticket;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorId(pub(crate) u64);

impl ErrorId {
    /// An id of 8 bytes, which should be random: see [`Host::random`](crate::runtime::Host::random).
    ///
    /// ```
    /// use partykit_core::ErrorId;
    ///
    /// assert_eq!(ErrorId::from_bytes([0x2a, 0, 0, 0, 0, 0, 0, 1]).to_string(), "010000000000002a");
    /// ```
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }
}

impl fmt::Display for ErrorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Reads the printed form.
impl std::str::FromStr for ErrorId {
    type Err = std::num::ParseIntError;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(id, 16).map(Self)
    }
}

impl fmt::Debug for ErrorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorId({self})")
    }
}

#[cfg(test)]
impl ErrorId {
    pub(crate) fn planned(number: u64) -> Self {
        Self(number)
    }
}
