use partykit_core::runtime::CloseReason;
use tungstenite::error::{Error, ProtocolError};

/// What a client did wrongly, from what tungstenite says of its frames.
pub(super) fn violation(error: Error) -> CloseReason {
    match error {
        Error::Capacity(_) => CloseReason::MessageTooLong,
        Error::Utf8(_) => CloseReason::NotUtf8,
        Error::Protocol(error) => match error {
            ProtocolError::NonZeroReservedBits => CloseReason::ReservedBits,
            ProtocolError::UnmaskedFrameFromClient => CloseReason::NoMask,
            ProtocolError::FragmentedControlFrame => CloseReason::ControlInFragments,
            ProtocolError::ControlFrameTooBig => CloseReason::ControlTooLong,
            ProtocolError::UnexpectedContinueFrame => CloseReason::NoMessageBegun,
            ProtocolError::ExpectedFragment(_) => CloseReason::MessageInMessage,
            ProtocolError::InvalidOpcode(_) => CloseReason::UnknownOpcode,
            ProtocolError::InvalidCloseSequence => CloseReason::BadClosePayload,
            _ => CloseReason::Protocol,
        },
        _ => CloseReason::Protocol,
    }
}
