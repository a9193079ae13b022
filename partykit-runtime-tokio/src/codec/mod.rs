//! The WebSocket protocol between bytes and messages, without IO.
//!
//! The bytes come from whoever reads the socket, into a buffer that many connections can share. A
//! [`Decoder`] cuts them into frames and has `tungstenite` judge and assemble each one; between two
//! messages it holds no memory beyond its own few bytes. What goes out is made by the `encode_*`
//! functions, one allocation a frame, so that a broadcast is encoded once and shared by every socket.
//! Nothing here answers by itself: the runtime decides what to say to a Ping or a Close.

mod decode;
mod encode;
#[cfg(test)]
mod tests;
mod violation;
mod window;

pub(crate) use decode::{Decoder, Incoming, Limits};
pub(crate) use encode::{close_reply, encode_close, encode_message, encode_ping, encode_pong};
/// The `Sec-WebSocket-Accept` of a handshake, from the bytes of its `Sec-WebSocket-Key`.
pub(crate) use tungstenite::handshake::derive_accept_key as accept_key;
pub(crate) use violation::Violation;
