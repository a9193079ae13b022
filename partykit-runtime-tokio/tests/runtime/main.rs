//! The runtime from outside, over TCP.

mod connects;
mod handles;
mod hooks;
mod origins;
mod raw;
mod requests;
mod screen;
mod shutdown;
mod support;
mod transport;
mod wire;

const TRANSPORT: transport::Transport = transport::Transport::Tcp;
