use partykit_core::{Close, CloseCode};
use tungstenite::error::{Error, ProtocolError};

/// What a client did against the protocol or a limit. The connection is beyond repair: send
/// [`Violation::close`], ignore what still arrives, hang up.
///
/// The texts are for the client and say what it did, nothing about this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// The bytes are not WebSocket frames as RFC 6455 has them.
    #[error("{0}")]
    Protocol(&'static str),
    /// A text message, or the reason of a Close, is not UTF-8.
    #[error("invalid UTF-8")]
    NotUtf8,
    /// A message is over [`Limits::max_message`](super::Limits::max_message).
    #[error("message too big")]
    TooBig,
    /// A message is over [`Limits::max_fragments`](super::Limits::max_fragments).
    #[error("too many fragments")]
    TooManyFragments,
    /// Pings and Pongs come faster than anybody needs them.
    #[error("too many control frames")]
    TooManyControls,
    /// Messages come faster than the party allows.
    #[error("too many messages")]
    TooManyMessages,
}

impl Violation {
    /// The code to close with: 1002, 1007, 1009 or 1008.
    pub(crate) fn code(self) -> CloseCode {
        match self {
            Self::Protocol(_) => CloseCode::PROTOCOL,
            Self::NotUtf8 => CloseCode::INVALID_PAYLOAD,
            Self::TooBig => CloseCode::TOO_BIG,
            Self::TooManyFragments | Self::TooManyControls | Self::TooManyMessages => {
                CloseCode::POLICY
            }
        }
    }

    /// The Close to send.
    pub(crate) fn close(self) -> Close {
        Close::new(self.code(), self.to_string()).expect("these codes and texts can be sent")
    }
}

impl From<Error> for Violation {
    fn from(error: Error) -> Self {
        match error {
            Error::Capacity(_) => Self::TooBig,
            Error::Utf8(_) => Self::NotUtf8,
            Error::Protocol(error) => Self::Protocol(describe(&error)),
            _ => Self::Protocol("protocol error"),
        }
    }
}

fn describe(error: &ProtocolError) -> &'static str {
    match error {
        ProtocolError::NonZeroReservedBits => "reserved bits set",
        ProtocolError::UnmaskedFrameFromClient => "unmasked frame",
        ProtocolError::FragmentedControlFrame => "fragmented control frame",
        ProtocolError::ControlFrameTooBig => "control frame too long",
        ProtocolError::UnexpectedContinueFrame => "continuation of nothing",
        ProtocolError::ExpectedFragment(_) => "message inside a message",
        ProtocolError::InvalidOpcode(_) => "unknown opcode",
        ProtocolError::InvalidCloseSequence => "invalid close payload",
        _ => "protocol error",
    }
}
