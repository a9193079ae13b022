use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use partykit_core::{Message, Options, Text, runtime::Chosen};

use super::{Ledger, Outbound, Sweeper, pace::PaceLimits};
use crate::{
    codec::{Limits, encode_message},
    memory::Memory,
    metrics::Meter,
};

/// What the sockets of one party have in common. Durations are rounded: what is due after 5 s happens after 5
/// to 7 s.
pub(crate) struct LinkSettings {
    /// What a client may send.
    pub(crate) limits: Limits,
    /// How fast it may send.
    pub(crate) pace: PaceLimits,
    /// A text message that is answered without the room, and the encoded answer.
    pub(crate) auto_response: Option<(Text, Bytes)>,
    /// Counts and limits what waits for clients.
    pub(crate) outbound: Arc<Ledger>,
    /// Counts and limits what clients have begun to send.
    pub(crate) memory: Arc<Memory>,
    /// While more bytes than this wait for a client, none of its messages is taken, so its answers cannot
    /// pile up. 1 MiB.
    pub(crate) clogged: usize,
    /// A client that is silent for this time is pinged. If it stays silent for this time again, it is given
    /// up with 1006. 30 s.
    pub(crate) keep_alive: Duration,
    /// How long a client may be silent after [`Socket::probe`](partykit_core::runtime::Socket::probe). 5 s.
    pub(crate) probe: Duration,
    /// How long a client may take to answer a Close, or to take the last frames. 10 s.
    pub(crate) close_timeout: Duration,
    /// How long a client may take to hang up after the server's last frame. What it sends meanwhile is read
    /// and dropped: closing a socket with unread bytes would reset the connection, and the client might lose
    /// the Close. 1 s.
    pub(crate) linger: Duration,
    /// How long a client may read nothing, or almost nothing, of what waits for it. 15 s.
    pub(crate) write_stall: Duration,
    /// How long a client that reads too slowly has for its last frames. Then the connection is reset, so that
    /// the operating system keeps nothing for it. 3 s.
    pub(crate) last_words: Duration,
    /// How long one message may take to arrive. 30 s.
    pub(crate) message_timeout: Duration,
    /// How many clients were closed because they read too slowly.
    pub(crate) slow_clients: AtomicU64,
    /// Counts what goes through the sockets.
    pub(crate) meter: Meter,
    /// Watches the time limits.
    pub(crate) sweeper: Arc<Sweeper>,
    /// Runs the sockets of plain TCP. Without it, each has a task of its own.
    #[cfg(unix)]
    pub(crate) reactor: Option<Arc<super::Reactor>>,
    /// Where sockets say that they leave.
    #[cfg(unix)]
    pub(crate) exit: super::Exit,
}

impl LinkSettings {
    /// The settings of a party with these options.
    pub(crate) fn new(
        options: &Options,
        sweeper: Arc<Sweeper>,
        outbound: Arc<Outbound>,
        memory: Arc<Memory>,
        meter: Meter,
    ) -> Self {
        let chosen = Chosen::of(options);
        let auto_response = chosen.auto_response.map(|(request, response)| {
            (request.clone(), encode_message(&Message::Text(response.clone())))
        });
        Self {
            limits: Limits::new(chosen.max_message),
            pace: PaceLimits::new(chosen.max_message_rate),
            auto_response,
            outbound: Ledger::new(outbound),
            memory,
            clogged: 1 << 20,
            keep_alive: Duration::from_secs(30),
            probe: Duration::from_secs(5),
            close_timeout: Duration::from_secs(10),
            linger: Duration::from_secs(1),
            write_stall: Duration::from_secs(15),
            last_words: Duration::from_secs(3),
            message_timeout: Duration::from_secs(30),
            slow_clients: AtomicU64::new(0),
            meter,
            sweeper,
            #[cfg(unix)]
            reactor: None,
            #[cfg(unix)]
            exit: super::Exit::default(),
        }
    }
}
