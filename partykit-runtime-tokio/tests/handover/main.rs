//! A server that is replaced while its clients stay, seen from outside: each test runs it in processes of its
//! own.
#![cfg(unix)]

mod failures;
mod house;
mod kept;
mod listeners;
mod steps;
mod strangers;
mod systemd;
#[cfg(feature = "tls")]
mod tls;
