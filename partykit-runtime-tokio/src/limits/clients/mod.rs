//! Limits on open connections, and on connections that have not sent a whole request yet.

mod books;
mod packed;
mod place;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use partykit_core::runtime::front::Refused;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Semaphore,
    time::timeout,
};

use self::books::Books;
pub(crate) use self::{
    packed::Packed,
    place::{Evicted, Place},
};
use crate::admitted::Admitted;

/// How many refused clients get an answer at the same time. Others are closed without one.
const TOLD: usize = 64;

/// How many places are kept for requests that are not for a room, such as a health check.
const RESERVE: usize = 64;

/// The limits of [`Clients`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientLimits {
    /// The most clients of the process, WebSockets and plain HTTP together.
    pub(crate) connections: usize,
    /// The most of them at one address. `None`: three quarters, and more while other addresses do not need
    /// the places.
    pub(crate) connections_per_address: Option<usize>,
    /// The most clients that have not sent a whole request, in total and at one address. `None`: three
    /// quarters of the connections.
    pub(crate) beginnings: Option<(usize, usize)>,
    /// How long a client may take to send a whole request head, the first one or a later one.
    pub(crate) patience: Duration,
}

/// The answer to a client for which there is no place. It is sent before the client's request is read.
fn full() -> Vec<u8> {
    let (head, body) = Refused::TooManyClients.into_response().into_parts();
    let body = body.bytes().cloned().unwrap_or_default();
    let (status, length) = (head.status, body.len());
    let mut text =
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n")
            .into_bytes();
    for (name, value) in &head.headers {
        text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    text.extend([b"\r\n", &*body].concat());
    text
}

impl Default for ClientLimits {
    /// 10 s, and seven eighths of the descriptors that the process may have. The rest is for storage and the
    /// rest of the program.
    fn default() -> Self {
        let connections = descriptors().map_or(usize::MAX, |limit| limit - limit / 8);
        Self {
            connections,
            connections_per_address: None,
            beginnings: None,
            patience: Duration::from_secs(10),
        }
    }
}

/// Gives places to clients. A client gets a place at once or not at all: it never waits for others.
///
/// * Connections without a request are easy to make, so they hold their place only until another client needs
///   it. When there is no more space, the oldest of them at the address with the most of them is closed. A
///   normal client has sent its request long before that.
/// * An address has a share of the places. Places above the share are lent: when there is no more space, a
///   client at another address gets them. So an unknown proxy can have all places while no other client
///   comes, and an attacker can hold only its share.
/// * A client behind a trusted proxy counts for no address until the proxy has named it; then it
///   [moves](Place::move_to) to its own address.
pub(crate) struct Clients {
    connections: usize,
    per_address: usize,
    /// Whether an address may have more than its share while others do not need the places.
    lends: bool,
    beginnings: usize,
    beginnings_per_address: usize,
    reserve: usize,
    patience: Duration,
    books: Mutex<Books>,
    /// Shared by all settled clients, while there are any.
    settled: Mutex<Weak<Place>>,
    told: Semaphore,
}

impl Clients {
    pub(crate) fn new(limits: ClientLimits) -> Arc<Self> {
        let connections = limits.connections;
        let most = (connections - connections / 4).max(1);
        let (beginnings, beginnings_per_address) = limits.beginnings.unwrap_or((most, most));
        Arc::new(Self {
            connections,
            per_address: limits.connections_per_address.unwrap_or(most),
            lends: limits.connections_per_address.is_none(),
            beginnings,
            beginnings_per_address,
            reserve: RESERVE.min(connections / 8).max(1),
            patience: limits.patience,
            books: Mutex::default(),
            settled: Mutex::default(),
            told: Semaphore::new(TOLD),
        })
    }

    /// See [`ClientLimits::patience`].
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Gives a client a place, which is free again when the result is dropped. The address is `None` if it is
    /// not known, or not yet.
    ///
    /// # Errors
    ///
    /// Returns `io` when there is no place, to be [refused](Clients::refuse).
    pub(crate) fn admit<I>(
        self: &Arc<Self>,
        io: I,
        address: Option<IpAddr>,
    ) -> Result<(Admitted<I>, Arc<Place>), I> {
        let address = address.map(prefix);
        let mut books = self.books();
        let has_space = books.clients < self.connections;
        let place = if has_space && books.enter_share(address, self.per_address) {
            Place::new(self.clone(), address, None)
        } else if self.make_space(&mut books, address) {
            let is_lent = !books.has_share(address, self.per_address);
            let loan = is_lent.then(|| books.lend(address));
            books.enter(address);
            Place::new(self.clone(), address, loan)
        } else {
            if books.late >= self.reserve && !books.evict_late() {
                return Err(io);
            }
            books.late += 1;
            Place::late(self.clone(), address)
        };
        drop(books);
        let place = Arc::new(place);
        Ok((Admitted::new(io, place.clone()), place))
    }

    /// Whether there is a place for a client at this address. It may take the place of another client.
    fn make_space(&self, books: &mut Books, address: Option<IpAddr>) -> bool {
        let has_share = books.has_share(address, self.per_address);
        let is_full = books.clients >= self.connections;
        match (is_full, has_share) {
            (false, true) => true,
            (false, false) => self.lends || books.evict_at(address),
            (true, true) => books.evict_one() || books.call_back(self.per_address),
            (true, false) => books.evict_at(address),
        }
    }

    /// Tells a client that there is no place for it.
    pub(crate) async fn refuse<I: AsyncRead + AsyncWrite + Unpin>(&self, mut io: I) {
        let Ok(_turn) = self.told.try_acquire() else { return };
        let tell = async {
            io.write_all(&full()).await?;
            io.shutdown().await?;
            // Read what the client has sent: closing with unread bytes would reset the connection, and the
            // client could not read the answer.
            let mut unread = [0; 1024];
            while io.read(&mut unread).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        let _ = timeout(Duration::from_secs(1), tell).await;
    }

    /// The place of all clients that are settled: most WebSockets are, and then need no place of their own.
    fn settled(self: &Arc<Self>) -> Arc<Place> {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.upgrade().unwrap_or_else(|| {
            let place = Arc::new(Place::of_settled(self.clone()));
            *settled = Arc::downgrade(&place);
            place
        })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one address. For IPv6 it is the first 64 bits, because one client has all addresses of such
/// a network.
pub(crate) fn prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        v4 => v4,
    }
}

/// How many descriptors the process may have. `None` if there is no limit.
#[cfg(unix)]
fn descriptors() -> Option<usize> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
    usize::try_from(limit).ok()
}

#[cfg(not(unix))]
fn descriptors() -> Option<usize> {
    None
}
