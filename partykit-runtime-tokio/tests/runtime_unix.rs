//! The runtime from outside, over a Unix socket: the same tests as over TCP.
#![cfg(unix)]

#[path = "runtime/connects.rs"]
mod connects;
#[path = "runtime/handles.rs"]
mod handles;
#[path = "runtime/hooks.rs"]
mod hooks;
#[path = "runtime/origins.rs"]
mod origins;
#[path = "runtime/requests.rs"]
mod requests;
#[path = "runtime/shutdown.rs"]
mod shutdown;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "runtime/support.rs"]
mod support;
#[path = "runtime/transport.rs"]
mod transport;
#[path = "runtime/wire.rs"]
mod wire;

const TRANSPORT: transport::Transport = transport::Transport::Unix;
