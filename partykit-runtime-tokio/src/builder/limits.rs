//! Limits on what clients may use of the process. The guide's page "What it withstands" lists all limits in
//! one table.

use std::{net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use governor::Quota;
use http::request::Parts;

use super::Builder;
use crate::{limits::AddressRate, socket::OutboundLimits};

impl Builder {
    /// How many clients may be connected at the same time, WebSockets and plain HTTP together. A further
    /// client gets a 503. But 64 places (or an eighth of this number, if that is less) are kept for requests
    /// to the [fallback](Builder::fallback), so that a health check is answered. Default: seven eighths of
    /// the file descriptors that the process may have (`ulimit -n`). The rest is for storage and the rest of
    /// the program.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.clients.connections = connections;
        self
    }

    /// How many of these connections one address may have. For IPv6, the first 64 bits are the address. A
    /// further client gets a 503. Default: three quarters of [`Builder::max_connections`]. By default an
    /// address may have more while there is space. When a client at another address needs a place, the oldest
    /// connection above the limit is closed. A limit that is set here is never exceeded.
    ///
    /// What counts as the address:
    ///
    /// * The peer of the connection. All clients of a reverse proxy have the address of the proxy.
    /// * For a [trusted proxy](Builder::trusted_proxies), the client that it names. Before the head of the
    ///   request has arrived, and if the proxy names no client, the connection counts for no address.
    /// * Clients without an address, such as those of a Unix socket, have no such limit.
    pub fn max_connections_per_address(mut self, connections: usize) -> Self {
        self.clients.connections_per_address = Some(connections.max(1));
        self
    }

    /// How many clients may still be sending their first request: in total, and at one address. When there is
    /// one more, the oldest such client of the address with the most of them is closed. A new client also
    /// takes the place of such a client when [`max_connections`](Builder::max_connections) is reached. So a
    /// client that never sends its request keeps no other client out. Default: three quarters of
    /// `max_connections` in total and at one address.
    ///
    /// Each of them can use up to 16 KiB of memory, the longest head of a request.
    pub fn max_handshakes(mut self, all: usize, per_address: usize) -> Self {
        self.clients.beginnings = Some((all.max(1), per_address.max(1)));
        self
    }

    /// The memory in bytes, for the whole process, for what clients have sent and no handler has handled.
    /// This counts the bodies of requests from their first byte to the answer, messages that have arrived in
    /// part, messages that a room has not taken, and the mailboxes of all rooms. Default: 256 MiB. Choose at
    /// least twice the longest message: a connection whose message needs more than the whole limit is closed
    /// with 1013.
    ///
    /// When the memory is used up, the oldest unfinished body or message of the address that uses most is
    /// given up: a request gets a 503 with `Retry-After`, a WebSocket is closed with 1013. Mailboxes use at
    /// most half; above that, the sockets of rooms that do not keep up have to wait. The first 4 KiB of each
    /// socket do not count, so short messages always get through. A message whose handler runs does not
    /// count.
    ///
    /// [`Options::max_request_body`](partykit_core::Options::max_request_body) limits a single body.
    pub fn max_inbound_memory(mut self, bytes: usize) -> Self {
        self.inbound = bytes;
        self
    }

    /// How long a client may take to send a complete request head, and how long a connection without a
    /// request may stay. Then the connection is closed. Default: 10 s. The time that the server takes for its
    /// answer does not count.
    pub fn handshake_timeout(mut self, patience: Duration) -> Self {
        self.clients.patience = patience;
        self
    }

    /// The memory in bytes for what waits to be read by clients: for all clients together, and for one
    /// client. Default: 256 MiB and 64 MiB. The buffers of the operating system and of TLS do not count; over
    /// TCP these are up to 128 KiB a client, beside what is on its way.
    ///
    /// **A client that reads is not closed**, even if it is slow, while no more than this waits for it. One
    /// handler may send [64 MiB](partykit_core::Options::max_held) at once. While more than 1 MiB waits for a
    /// client, its own messages are not read, so answers do not pile up.
    ///
    /// A client is closed with 1013 when it reads nothing for 15 s (or less than 16 KiB while more waits), or
    /// when more waits for it than one client may have. When all clients together are over the limit, rooms
    /// wait up to 1 s before they send more, and clients that have read nothing for 2 s or longer are closed,
    /// the slowest first. If that does not help, and a quarter more than the limit waits, the clients for
    /// which most waits are closed. A message for many clients counts once for all clients together, and once
    /// towards the limit of each client.
    ///
    /// **Answers to requests** have the same amount of memory for all clients together, in addition. When it
    /// is used up, the oldest unread answer of the address that uses most is given up, and its connection is
    /// closed. An answer that is longer than the whole limit becomes a 503. Streamed bodies, and bodies of up
    /// to 4 KiB, do not count. Inside of another server (`RuntimeService`) there is no such limit.
    ///
    /// A client that is closed this way has 3 s to begin reading again, and 10 s to read up to its Close.
    /// Then the connection is reset.
    pub fn max_outbound(mut self, all: usize, per_client: usize) -> Self {
        self.outbound = OutboundLimits { all, per_client };
        self
    }

    /// How many rooms of all parties may be in memory: awake, or asleep with connections. When there are this
    /// many, a request or connection to a further room gets a 503. The other rooms go on. Default: 100,000.
    pub fn max_rooms(mut self, rooms: usize) -> Self {
        self.max_rooms = rooms;
        self
    }

    /// How many rooms the clients at one address may bring into memory in a minute. A further request gets a
    /// 429 with `Retry-After`. Requests that [`on_before_connect`](partykit_core::Server::on_before_connect)
    /// refuses, and rooms that are in memory already, do not count. For IPv6, the first 64 bits are the
    /// address.
    ///
    /// Default: no limit, because many people can have the same address: all clients of a reverse proxy (see
    /// [`Builder::client_address`]), or all pupils of a school. [`Builder::max_rooms`] holds in any case.
    ///
    /// # Panics
    ///
    /// When it is 0, because then there could be no rooms.
    #[track_caller]
    pub fn max_new_rooms_per_minute(mut self, rooms: u32) -> Self {
        let rooms =
            NonZeroU32::new(rooms).expect("an address may bring at least 1 new room a minute");
        self.new_rooms = Some(rooms);
        self
    }

    /// How many messages all clients at one address may send together, in all rooms: `per_second` in a
    /// second, and up to `burst` at once after a pause. The next message closes its connection with 1008.
    /// [`Options::max_message_rate`](partykit_core::Options::max_message_rate) is the same limit for a single
    /// client.
    ///
    /// Default: no limit, for the reason that [`Builder::max_new_rooms_per_minute`] gives.
    ///
    /// # Panics
    ///
    /// When one of them is 0, because then no client could say anything.
    #[track_caller]
    pub fn max_message_rate_per_address(mut self, per_second: u32, burst: u32) -> Self {
        let rate = NonZeroU32::new(per_second).zip(NonZeroU32::new(burst));
        let (rate, burst) = rate.expect("the rate and the burst must be at least 1");
        let quota = Quota::per_second(rate).allow_burst(burst);
        self.messages = Some(Arc::new(AddressRate::new(quota)));
        self
    }

    /// Returns the address of the client, for the limits that count requests by address. A client without an
    /// address has no such limit. Default: the other end of the TCP connection. Behind a proxy, read the
    /// header that the proxy sets, but only if every client has to go through the proxy: any client can send
    /// the header.
    ///
    /// ```
    /// use partykit_runtime_tokio::Runtime;
    ///
    /// let builder = Runtime::builder()
    ///     .max_new_rooms_per_minute(60)
    ///     .client_address(|head| head.headers.get("cf-connecting-ip")?.to_str().ok()?.parse().ok());
    /// # let _ = builder;
    /// ```
    pub fn client_address(
        mut self,
        address: impl Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.client_address = Arc::new(address);
        self
    }
}
