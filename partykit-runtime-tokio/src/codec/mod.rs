//! The WebSocket protocol between bytes and messages, without IO.
//!
//! The reader of the socket puts bytes into a buffer that many connections can share. A [`Decoder`] cuts them
//! into frames, takes the masks away with one copy, and puts the fragments of a message together; control
//! frames are checked by `tungstenite`. Between two messages it holds only its own few bytes. The `encode_*`
//! functions make what goes out, with one allocation a frame, so that all sockets share one long broadcast. Short
//! messages are encoded where they wait ([`append_message`]).
//! The codec never answers by itself: the socket answers Pings and Closes.

mod accept;
mod decode;
mod encode;
mod head;
mod message;
#[cfg(test)]
mod tests;
mod violation;
mod window;

pub(crate) use accept::{ACCEPT, accept_key};
pub(crate) use decode::{Decoder, Incoming, Limits};
#[cfg(unix)]
pub(crate) use encode::encode_client_message;
pub(crate) use encode::{
    append_message, close_reply, encode_close, encode_message, encode_ping, encode_pong,
    message_frame,
};
