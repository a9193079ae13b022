//! Gives everything to the next process without closing a connection: what a deploy does.
//!
//! The old process starts the new one ([`successor`]), or the new one connects to it. They talk over a Unix
//! socket ([`wire`], [`message`]):
//!
//! ```text
//! new: Hello     this format, this release
//! old: Welcome   and the listeners, which the new process does not use yet
//! new: Ready     its parties, its store: all that can fail before has not failed
//! old: ..        lets no client in, reads no socket, lets handlers end, puts all rooms to sleep ([`quiet`]),
//!                closes the store
//! old: Batch*    each socket: its descriptor, its room, its attachment, what is half read and half written
//! old: End
//! new: Taken     the store is open, and all sockets are here: the commit
//! old: Yours     the old process touches nothing any more, and ends
//! ```
//!
//! Until the old process has read `Taken`, it has every descriptor too, and has read nothing from any socket.
//! So it takes everything back if the new process fails or says nothing ([`giving`], [`transfer`]). After `Taken`, the new
//! process goes on even if the old one dies without a `Yours` ([`taking`]): an old process that gives up
//! kills the new one before it touches a socket.

mod error;
mod giving;
mod message;
pub(crate) mod notify;
mod quiet;
mod rendezvous;
mod successor;
pub(crate) mod taking;
mod transfer;
mod wire;

pub use self::error::HandOverError;
pub(crate) use self::{
    giving::hand_over,
    rendezvous::Rendezvous,
    successor::remember_start,
    taking::{Held, inherited},
};
