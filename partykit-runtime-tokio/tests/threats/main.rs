//! What hostile and clumsy clients do, by the number of the threat. While they do it, a witness in the
//! same room goes on as if nothing were.

mod beginnings;
mod dead_peers;
mod floods;
mod frames;
mod herd;
mod names;
mod origins;
mod panics;
mod rooms;
mod slow_readers;
mod smuggling;
mod stored;
#[allow(dead_code, reason = "shared with the tests of the runtime")]
#[path = "../runtime/support.rs"]
mod support;
#[allow(dead_code, reason = "shared with the tests of the runtime")]
#[path = "../runtime/transport.rs"]
mod transport;
mod wire;
mod witness;

const TRANSPORT: transport::Transport = transport::Transport::Tcp;
