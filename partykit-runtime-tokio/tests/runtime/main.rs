//! The runtime from outside, over TCP.

mod connects;
mod handles;
mod hooks;
mod origins;
mod requests;
mod screen;
mod shutdown;
mod support;
