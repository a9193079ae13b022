use std::fmt;

use crate::Text;

/// A WebSocket close code and a reason: why a connection has ended, or is to end.
///
/// There are two kinds. A server *sends* a close that is made with [`Close::new`]; its code may be sent.
/// [`Server::on_close`](crate::Server::on_close) *sees* a close that may also have the code
/// [`CloseCode::NO_STATUS`] (the client's Close had no code) or [`CloseCode::ABNORMAL`] (no Close came).
///
/// ```
/// use partykit_core::{Close, CloseCode};
///
/// let close = Close::new(4001, "kicked")?;
/// assert_eq!(close.code(), CloseCode::from(4001));
/// assert!(Close::new(1006, "").is_err(), "1006 never stands on the wire");
/// # Ok::<(), partykit_core::InvalidClose>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Close {
    code: CloseCode,
    reason: Text,
    clean: bool,
}

impl Close {
    /// The longest reason in bytes: a control frame holds 125, the code takes two (RFC 6455, 5.5).
    pub const MAX_REASON: usize = 123;

    /// A close to send.
    ///
    /// # Errors
    ///
    /// When `code` may not be sent (see [`CloseCode::is_sendable`]) or `reason` is longer than
    /// [`Close::MAX_REASON`] bytes.
    pub fn new(code: impl Into<CloseCode>, reason: impl Into<Text>) -> Result<Self, InvalidClose> {
        let (code, reason) = (code.into(), reason.into());
        if !code.is_sendable() {
            return Err(InvalidClose::Code(code));
        }
        if reason.len() > Self::MAX_REASON {
            return Err(InvalidClose::Reason(reason.len()));
        }
        Ok(Self { code, reason, clean: true })
    }

    /// A normal end, code 1000 and no reason.
    pub fn normal() -> Self {
        Self::fixed(CloseCode::NORMAL, "")
    }

    /// A Close that arrived without a code: [`CloseCode::NO_STATUS`], clean.
    pub fn no_status() -> Self {
        Self::fixed(CloseCode::NO_STATUS, "")
    }

    /// A connection that ended without a Close frame: [`CloseCode::ABNORMAL`], not clean.
    pub fn abnormal(reason: impl Into<Text>) -> Self {
        Self { code: CloseCode::ABNORMAL, reason: reason.into(), clean: false }
    }

    /// The same close, marked as not clean: the closing handshake was not completed.
    #[must_use]
    pub fn unclean(self) -> Self {
        Self { clean: false, ..self }
    }

    /// The close code.
    pub fn code(&self) -> CloseCode {
        self.code
    }

    /// The reason, often empty.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether the closing handshake was completed.
    pub fn is_clean(&self) -> bool {
        self.clean
    }

    /// A close that this library sends: its codes and reasons are known to be valid.
    pub(crate) fn fixed(code: CloseCode, reason: impl Into<Text>) -> Self {
        Self { code, reason: reason.into(), clean: true }
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.reason.is_empty() {
            write!(f, " {:?}", self.reason)?;
        }
        Ok(())
    }
}

/// A close that cannot be sent.
///
/// ```
/// use partykit_core::{Close, InvalidClose};
///
/// assert_eq!(Close::new(1006, "").unwrap_err(), InvalidClose::Code(1006.into()));
/// assert_eq!(Close::new(1000, "?".repeat(200)).unwrap_err(), InvalidClose::Reason(200));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidClose {
    /// The code is reserved, undefined or out of range.
    #[error("close code {0} may not be sent; use 1000, 3000 to 4999, or another code of RFC 6455")]
    Code(CloseCode),
    /// The reason does not fit in a control frame.
    #[error("close reason has {0} bytes; at most {max} fit", max = Close::MAX_REASON)]
    Reason(usize),
}

/// A WebSocket close code (RFC 6455, section 7.4).
///
/// ```
/// use partykit_core::CloseCode;
///
/// assert!(CloseCode::from(4321).is_sendable());
/// assert!(!CloseCode::NO_STATUS.is_sendable());
/// assert_eq!(CloseCode::RESTART.to_string(), "1012");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: done.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server shuts down, or the user has left the page.
    pub const AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// 1005, never sent: the peer's Close had no code.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006, never sent: the connection ended without a Close.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: a payload was not what its frame said, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: the peer did something that is not allowed here.
    pub const POLICY: Self = Self(1008);
    /// 1009: a message was over the limit.
    pub const TOO_BIG: Self = Self(1009);
    /// 1011: the server failed.
    pub const INTERNAL: Self = Self(1011);
    /// 1012: the server restarts; come back.
    pub const RESTART: Self = Self(1012);
    /// 1013: try again later; the server or this connection is overloaded.
    pub const TRY_AGAIN: Self = Self(1013);

    /// Whether this code may be sent: 1000 to 1003, 1007 to 1014 and 3000 to 4999.
    pub fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        Self(code)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_of_the_wire_can_be_sent() {
        for code in [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999] {
            assert!(Close::new(code, "").is_ok(), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, u16::MAX] {
            assert_eq!(Close::new(code, ""), Err(InvalidClose::Code(code.into())));
        }
    }

    #[test]
    fn a_reason_has_at_most_123_bytes() {
        assert!(Close::new(1000, "é".repeat(61) + "x").is_ok());
        assert_eq!(Close::new(1000, "é".repeat(62)), Err(InvalidClose::Reason(124)));
    }
}
