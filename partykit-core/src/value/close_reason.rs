use std::fmt;

use super::{
    close::{Close, CloseCode},
    error_id::ErrorId,
};

/// Makes the enum, and with it the code and the text of each reason.
macro_rules! reasons {
    ($($code:ident { $($(#[$doc:meta])* $name:ident: $text:literal,)* })*) => {
        /// Why this library closes a connection by itself: each reason that a runtime or the room gives,
        /// with its close code and its text.
        ///
        /// The text is for the client, or, with the code 1006, for
        /// [`Server::on_close`](crate::Server::on_close) alone. It says what the client did, and nothing about
        /// the server.
        ///
        /// A failed connect has a text with an error id: [`CloseReason::failed`].
        ///
        /// ```
        /// use partykit_core::{CloseCode, runtime::CloseReason};
        ///
        /// let close = CloseReason::Restart.close();
        /// assert_eq!((close.code(), close.reason()), (CloseCode::RESTART, "the server restarts"));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum CloseReason {
            $($($(#[$doc])* $name,)*)*
        }

        impl CloseReason {
            /// All of them, by their codes.
            pub const ALL: &[Self] = &[$($(Self::$name,)*)*];

            /// The close code.
            pub fn code(self) -> CloseCode {
                match self {
                    $($(Self::$name)|* => CloseCode::$code,)*
                }
            }

            /// The text.
            pub fn text(self) -> &'static str {
                match self {
                    $($(Self::$name => $text,)*)*
                }
            }
        }
    };
}

// The page docs/src/protocol.md has the same list; tests/close_reasons.rs compares them.
reasons! {
    PROTOCOL {
        /// 1002: a frame has reserved bits.
        ReservedBits: "reserved bits are set",
        /// 1002: a client's frame has to be masked.
        NoMask: "a frame without a mask",
        /// 1002: a control frame has to be whole.
        ControlInFragments: "a control frame in fragments",
        /// 1002: a control frame has at most 125 bytes.
        ControlTooLong: "a control frame that is too long",
        /// 1002: a continuation frame, and no message has begun.
        NoMessageBegun: "a continuation without a message",
        /// 1002: a message begins before the last one has ended.
        MessageInMessage: "a message inside of another",
        /// 1002: a frame is of no known kind.
        UnknownOpcode: "an unknown opcode",
        /// 1002: a Close with half a code.
        BadClosePayload: "a Close with a bad payload",
        /// 1002: a Close with a code that may not be sent.
        BadCloseCode: "a close code that may not be sent",
        /// 1002: something else that RFC 6455 forbids.
        Protocol: "a protocol error",
    }
    INVALID_PAYLOAD {
        /// 1007: a text message, or the reason of a Close, is not UTF-8.
        NotUtf8: "text that is not UTF-8",
    }
    POLICY {
        /// 1008: a message has more fragments than allowed.
        TooManyFragments: "a message in too many fragments",
        /// 1008: Pings and Pongs come faster than allowed.
        TooManyControls: "too many control frames",
        /// 1008: messages come faster than
        /// [`Options::max_message_rate`](crate::Options::max_message_rate) allows, from the client or from its
        /// address.
        TooManyMessages: "too many messages",
        /// 1008: a message did not arrive whole in time.
        MessageTooSlow: "the message took too long",
    }
    TOO_BIG {
        /// 1009: a message has more bytes than allowed.
        MessageTooLong: "the message is too long",
    }
    RESTART {
        /// 1012: the server shuts down or restarts. The client should come back.
        Restart: "the server restarts",
    }
    TRY_AGAIN {
        /// 1013: the client reads too slowly, or too much waits for all clients.
        TooFarBehind: "the client is too far behind",
        /// 1013: the message has begun, and there is no memory for the rest.
        NoMemory: "the server has no memory for the message now",
        /// 1013: too many events wait for the room, and this client cannot be told to wait.
        Overloaded: "the room is overloaded",
        /// 1013: the room does not let the connection in now.
        TryAgain: "try again later",
    }
    ABNORMAL {
        /// 1006: the client ended the connection in the middle.
        HungUp: "the client hung up without a Close",
        /// 1006: the network or the client's system ended the connection.
        Broken: "the connection broke",
        /// 1006: the client was pinged, and said nothing.
        NoAnswer: "the client does not answer",
        /// 1006: the client reads nothing of what waits for it.
        ReadsNothing: "the client reads nothing",
        /// 1006: both sides have closed, and the client keeps the connection open.
        HangsUpTooLate: "the client did not hang up in time",
        /// 1006: too much waits for all clients, and this one could not be told in time.
        NoSpace: "too much waits for all clients",
        /// 1006: the client was accepted, and was gone before the handshake ended.
        NoHandshake: "the client was gone before the handshake ended",
        /// 1006: the platform takes no further socket.
        NoPlace: "the platform takes no further socket",
        /// 1006: the runtime dropped the socket.
        Dropped: "the socket was dropped",
    }
}

impl CloseReason {
    /// The close: one to send, or, with the code 1006, one to tell the room.
    pub fn close(self) -> Close {
        match self.code() {
            CloseCode::ABNORMAL => Close::abnormal(self.text()),
            code => Close::fixed(code, self.text()),
        }
    }

    /// 1011 with the text `error` and the id: the room could not start, or `on_connect` failed. The log has
    /// the detail under this id.
    pub fn failed(id: ErrorId) -> Close {
        Close::fixed(CloseCode::INTERNAL, format!("error {id}"))
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_can_be_sent_or_told_to_the_room() {
        for reason in CloseReason::ALL {
            let close = reason.close();
            if close.code() == CloseCode::ABNORMAL {
                assert!(!close.is_clean(), "{reason}");
            } else {
                assert_eq!(Close::new(close.code(), close.reason()), Ok(close), "{reason}");
            }
        }
    }
}
