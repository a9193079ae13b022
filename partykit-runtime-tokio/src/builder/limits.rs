//! How much clients may take of the process. The page "What it withstands" of the guide has all of it in
//! one table.

use std::{net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use governor::Quota;
use http::request::Parts;

use super::Builder;
use crate::{limits::AddressRate, socket::OutboundLimits};

impl Builder {
    /// How many clients the process has at a time, sockets and plain HTTP together. One more gets a 503,
    /// unless its request is for no room: 64 places, or an eighth of these if that is less, are kept for
    /// the [fallback](Builder::fallback), so that a health check is answered. Default: seven eighths of the
    /// descriptors that the process may have (`ulimit -n`). The others are for storage, and for what else
    /// the program does.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.clients.connections = connections;
        self
    }

    /// How many of those one address may have, which is of IPv6 its first 64 bits. One more gets a 503,
    /// as above. Default: three quarters of [`Builder::max_connections`], and more while no client at another
    /// address needs a place: then the oldest of these connections that are too many is closed for it. A limit
    /// that is set here is never exceeded.
    ///
    /// What counts as the address:
    ///
    /// * The other end of the connection. All clients of a reverse proxy have the address of the proxy.
    /// * For a [trusted proxy](Builder::trusted_proxies), the client that it names. Before the head of the
    ///   request has arrived, and when the proxy names no client, the connection counts for no address.
    /// * Clients without an address, as those of a Unix socket, have no such limit.
    pub fn max_connections_per_address(mut self, connections: usize) -> Self {
        self.clients.connections_per_address = Some(connections.max(1));
        self
    }

    /// How many clients may be there whose first request has not arrived whole: in total, and at one address.
    /// When there is one more, the oldest of them is closed, of the address that has the most of them. When
    /// there are as many clients as [allowed](Builder::max_connections), a new one takes the place of such a
    /// client too. So a client that never sends its request keeps no other client out. Default: three
    /// quarters of `max_connections`, all of which may be at one address.
    ///
    /// Each of them may have sent up to 16 KiB, the longest head of a request.
    pub fn max_handshakes(mut self, all: usize, per_address: usize) -> Self {
        self.clients.beginnings = Some((all.max(1), per_address.max(1)));
        self
    }

    /// How many bytes of memory in the whole process may hold what clients sent and no handler has handled:
    /// bodies of requests from their first byte to the answer, messages that have arrived in part, messages
    /// that a room has not taken, and the mailboxes of all rooms. Default: 256 MiB. Choose at least twice the
    /// longest message: a message that needs more than the whole limit is closed with 1013.
    ///
    /// When there is no more, the oldest unfinished body or message is given up, of the address that has
    /// the most: a request gets a 503 with `Retry-After`, a socket is closed with 1013. Mailboxes take at
    /// most half; beyond that, rooms that do not keep up make their sockets wait. Up to 4 KiB of a socket
    /// are not counted, so short messages always get through. A message whose handler runs is not counted.
    ///
    /// How long one body may be, says [`Options::max_request_body`](partykit_core::Options::max_request_body).
    pub fn max_inbound_memory(mut self, bytes: usize) -> Self {
        self.inbound = bytes;
        self
    }

    /// How long a client may take until its first request has arrived whole, and how long it may keep a
    /// connection without a request. Then the connection is closed. Default: 10 s. The time that the server
    /// takes for its answer does not count.
    pub fn handshake_timeout(mut self, patience: Duration) -> Self {
        self.clients.patience = patience;
        self
    }

    /// How much memory may be taken by what waits for clients to read it: for all clients together, and for
    /// one, in bytes. Default: 256 MiB and 64 MiB. What the operating system and TLS hold is not in
    /// it; for a client of a TCP listener, that is up to 128 KiB beside what is on its way.
    ///
    /// **A client that reads is not closed**, however slow it is, as long as no more than this waits for
    /// it: one handler may say [64 MiB](partykit_core::Options::max_held) at once. While more than 1 MiB
    /// waits for a client, its own messages are not read, so what it asks for does not pile up.
    ///
    /// A client that takes nothing for 15 s, or less than 16 KiB while more than that waits, is closed with
    /// 1013, and so is one for which more waits than it may. When all together have too much, those are
    /// closed first that have taken nothing for longest, 2 s at least, and rooms wait up to 1 s before
    /// they say more. When a quarter more than the limit waits nevertheless, those are closed for which
    /// most waits. A message for many clients counts once for all together, and for each of them
    /// towards its own limit.
    ///
    /// **Answers to requests** have as much again, all together. When there is no more, the oldest one that
    /// was not read is given up with its connection, of the address that has the most. An answer that is
    /// longer than all of it becomes a 503. Bodies that are streams, and those of up to 4 KiB, do not count.
    /// Within another server (`RuntimeService`) there is no such limit.
    ///
    /// A client that is closed so has 3 s to go on reading up to its Close, and 10 s if it does read.
    /// Then the connection is reset.
    pub fn max_outbound(mut self, all: usize, per_client: usize) -> Self {
        self.outbound = OutboundLimits { all, per_client };
        self
    }

    /// How many rooms there may be in memory, of all parties together: awake, or asleep with
    /// connections. While there are as many, what would bring a further one into memory gets a 503, and
    /// those that are there go on. Default: 100,000.
    pub fn max_rooms(mut self, rooms: usize) -> Self {
        self.max_rooms = rooms;
        self
    }

    /// How many rooms the clients at one address may bring into memory in a minute, after
    /// [`on_before_connect`](partykit_core::Server::on_before_connect) let them; a further one gets a
    /// 429 with `Retry-After`. Rooms that are in memory already do not count. An address is of IPv6 its
    /// first 64 bits.
    ///
    /// Default: no limit, because an address is not a person: all clients of a reverse proxy come from
    /// one, see [`Builder::client_address`], and so do all pupils of a school.
    /// [`Builder::max_rooms`] holds in any case.
    ///
    /// # Panics
    ///
    /// When it is 0: then there would be no rooms.
    #[track_caller]
    pub fn max_new_rooms_per_minute(mut self, rooms: u32) -> Self {
        let rooms =
            NonZeroU32::new(rooms).expect("an address may bring at least 1 new room a minute");
        self.new_rooms = Some(rooms);
        self
    }

    /// How fast all clients at one address may talk together, in all rooms: `per_second` messages in a second, and up
    /// to `burst` at once after a silence. The next message closes its connection with 1008. Default: no
    /// limit. [`Options::max_message_rate`](partykit_core::Options::max_message_rate) is the same limit for
    /// each client by itself.
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
