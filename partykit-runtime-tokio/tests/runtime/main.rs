//! The runtime from outside, over TCP.

mod connects;
mod handles;
mod hooks;
mod operators;
mod origins;
mod requests;
mod screen;
mod shutdown;
#[allow(dead_code, reason = "shared with other tests")]
mod support;
mod transport;
mod wire;

const TRANSPORT: transport::Transport = transport::Transport::Tcp;
