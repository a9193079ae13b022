//! How many clients there may be, and how many of them may be at the beginning.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{Semaphore, oneshot},
    time::timeout,
};

use crate::{
    admitted::Admitted,
    crowd::{Crowd, Ticket},
};

/// What one client too many is told. It did not get to say anything.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n\
    content-length: 0\r\n\r\n";

/// So many are told at the same time. Others are hung up on.
const TOLD: usize = 64;

/// So many places are kept for requests that are for no room, as those of a health check.
const RESERVE: usize = 64;

/// The limits of [`Clients`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientLimits {
    /// Clients of the process, sockets and plain HTTP together.
    pub(crate) connections: usize,
    /// Those of them at one address; `None` is three quarters.
    pub(crate) connections_per_address: Option<usize>,
    /// Clients whose request has not arrived whole, and those of them at one address; `None` is three
    /// quarters of the connections.
    pub(crate) beginnings: Option<(usize, usize)>,
    /// How long a client may take until its first request has arrived whole; also how long for each
    /// further one.
    pub(crate) patience: Duration,
}

impl Default for ClientLimits {
    /// 10 s, and seven eighths of the descriptors that the process may have: the rest is for storage, and
    /// for what else the program does.
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

/// Lets clients in, at once or not at all: nobody waits for others to be done.
///
/// A client that has not said yet what it wants is easily made, so it holds its place only until another
/// needs it: when there is no more space, the oldest of those goes, of the address that has the most of
/// them. A decent client is done with its request long before as many others have come at its address.
pub(crate) struct Clients {
    connections: usize,
    per_address: usize,
    beginnings: usize,
    beginnings_per_address: usize,
    reserve: usize,
    patience: Duration,
    books: Mutex<Books>,
    told: Semaphore,
}

#[derive(Default)]
struct Books {
    /// Clients that have a place, and how many of them each address has.
    clients: usize,
    addresses: HashMap<IpAddr, usize>,
    /// Those of them whose request is awaited.
    unheard: Crowd<Evict>,
    /// Clients that have a place of the reserve, and those of them whose request is awaited.
    late: usize,
    late_unheard: Crowd<Evict>,
}

/// Tells a client that it has to go.
type Evict = oneshot::Sender<()>;

impl Clients {
    pub(crate) fn new(limits: ClientLimits) -> Arc<Self> {
        let connections = limits.connections;
        let most = (connections - connections / 4).max(1);
        let (beginnings, beginnings_per_address) = limits.beginnings.unwrap_or((most, most));
        Arc::new(Self {
            connections,
            per_address: limits.connections_per_address.unwrap_or(most),
            beginnings,
            beginnings_per_address,
            reserve: RESERVE.min(connections / 8).max(1),
            patience: limits.patience,
            books: Mutex::default(),
            told: Semaphore::new(TOLD),
        })
    }

    /// See [`ClientLimits::patience`].
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// A client, unless there are too many; and the place that it has for as long as it lives.
    ///
    /// # Errors
    ///
    /// `io` comes back, to be [refused](Clients::refuse).
    pub(crate) fn admit<I>(
        self: &Arc<Self>,
        io: I,
        address: Option<IpAddr>,
    ) -> Result<(Admitted<I>, Arc<Place>), I> {
        let address = address.map(prefix);
        let mut books = self.books();
        let fits = (books.at(address) < self.per_address || books.evict_at(address))
            && (books.clients < self.connections || books.evict_one());
        let is_late = !fits;
        if is_late {
            if books.late >= self.reserve && !books.evict_late() {
                drop(books);
                return Err(io);
            }
            books.late += 1;
        } else {
            books.enter(address);
        }
        drop(books);
        let state = PlaceState { address, ticket: None, is_gone: false };
        let place = Arc::new(Place { clients: self.clone(), is_late, state: Mutex::new(state) });
        let admitted = Admitted::new(io, place.clone());
        Ok((admitted, place))
    }

    /// Tells a client that there is no place for it.
    pub(crate) async fn refuse<I: AsyncRead + AsyncWrite + Unpin>(&self, mut io: I) {
        let Ok(_turn) = self.told.try_acquire() else { return };
        let tell = async {
            io.write_all(FULL).await?;
            io.shutdown().await?;
            // To hang up on what it has sent would reset the connection, and it would not read this.
            let mut unread = [0; 1024];
            while io.read(&mut unread).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        let _ = timeout(Duration::from_secs(1), tell).await;
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn at(&self, address: Option<IpAddr>) -> usize {
        address.and_then(|address| self.addresses.get(&address)).copied().unwrap_or(0)
    }

    fn enter(&mut self, address: Option<IpAddr>) {
        self.clients += 1;
        if let Some(address) = address {
            *self.addresses.entry(address).or_default() += 1;
        }
    }

    fn leave(&mut self, address: Option<IpAddr>) {
        self.clients -= 1;
        let Some(address) = address else { return };
        if let Some(count) = self.addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
    }

    /// Takes the place of a client that has not said what it wants. Whether there was one.
    fn evict_one(&mut self) -> bool {
        let Some((address, evict)) = self.unheard.evict() else { return false };
        self.leave(address);
        let _ = evict.send(());
        true
    }

    /// The same at one address.
    fn evict_at(&mut self, address: Option<IpAddr>) -> bool {
        let Some(evict) = self.unheard.evict_at(address) else { return false };
        self.leave(address);
        let _ = evict.send(());
        true
    }

    fn evict_late(&mut self) -> bool {
        let Some((_, evict)) = self.late_unheard.evict() else { return false };
        self.late -= 1;
        let _ = evict.send(());
        true
    }
}

/// The place of one client among all.
pub(crate) struct Place {
    clients: Arc<Clients>,
    is_late: bool,
    state: Mutex<PlaceState>,
}

struct PlaceState {
    address: Option<IpAddr>,
    /// It is among those whose request is awaited.
    ticket: Option<Ticket>,
    /// Another has the place.
    is_gone: bool,
}

/// There are as many clients at an address as there may be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Place {
    /// Whether it is one of the reserve: rooms are for others.
    pub(crate) fn is_late(&self) -> bool {
        self.is_late
    }

    /// The client is to say something, a request or its body. Until the first result is dropped, its
    /// place may be taken away, which the second one tells.
    pub(crate) fn listen(self: &Arc<Self>) -> (Listening, Evicted) {
        let (evict, evicted) = oneshot::channel();
        let listening = (Listening(self.clone()), Evicted(evicted));
        let (mut state, mut books) = (self.state(), self.clients.books());
        if state.is_gone || state.ticket.is_some() {
            return listening;
        }
        if self.is_late {
            state.ticket = Some(books.late_unheard.join(state.address, 1, evict));
            return listening;
        }
        state.ticket = Some(books.unheard.join(state.address, 1, evict));
        let Clients { beginnings, beginnings_per_address, .. } = *self.clients;
        if books.unheard.weight_at(state.address) > beginnings_per_address {
            books.evict_at(state.address);
        }
        while books.unheard.len() > beginnings && books.evict_one() {}
        drop((state, books));
        listening
    }

    /// Where the client is, if that is known.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.state().address
    }

    /// It is known now at which address the client is.
    ///
    /// # Errors
    ///
    /// When there are as many clients as there may be.
    pub(crate) fn move_to(&self, address: IpAddr) -> Result<(), TooMany> {
        let address = Some(prefix(address));
        let (mut state, mut books) = (self.state(), self.clients.books());
        if self.is_late || state.is_gone || state.address == address {
            return Ok(());
        }
        if books.at(address) >= self.clients.per_address {
            return Err(TooMany);
        }
        self.heard(&mut state, &mut books);
        if !state.is_gone {
            books.leave(state.address);
            books.enter(address);
            state.address = address;
        }
        Ok(())
    }

    /// Nothing is awaited of the client any more.
    fn heard(&self, state: &mut PlaceState, books: &mut Books) {
        let Some(ticket) = state.ticket.take() else { return };
        let crowd = if self.is_late { &mut books.late_unheard } else { &mut books.unheard };
        state.is_gone |= crowd.leave(ticket).is_none();
    }

    fn state(&self) -> MutexGuard<'_, PlaceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (mut state, mut books) = (self.state(), self.clients.books());
        self.heard(&mut state, &mut books);
        match (state.is_gone, self.is_late) {
            (true, _) => {}
            (false, true) => books.late -= 1,
            (false, false) => books.leave(state.address),
        }
    }
}

/// Something is awaited of a client, until this is dropped.
pub(crate) struct Listening(Arc<Place>);

impl Drop for Listening {
    fn drop(&mut self) {
        let (mut state, mut books) = (self.0.state(), self.0.clients.books());
        self.0.heard(&mut state, &mut books);
    }
}

/// Tells that a client has lost its place, or its memory.
pub(crate) struct Evicted(oneshot::Receiver<()>);

impl Evicted {
    pub(crate) fn new(told: oneshot::Receiver<()>) -> Self {
        Self(told)
    }

    /// Ready when it has.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match Pin::new(&mut self.0).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Ends when it has.
    pub(crate) async fn wait(self) {
        if self.0.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What counts as one address: of IPv6 the first 64 bits, because whoever has one has all of those.
pub(crate) fn prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        v4 => v4,
    }
}

/// How many descriptors the process may have, if there is a limit.
#[cfg(unix)]
fn descriptors() -> Option<usize> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
    usize::try_from(limit).ok()
}

#[cfg(not(unix))]
fn descriptors() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use crate::admitted::STALL;
    use tokio::time::sleep;

    use futures_util::{
        FutureExt,
        future::{BoxFuture, Fuse, FusedFuture},
    };
    use tokio::io::duplex;

    use super::*;

    fn limits(connections: usize, per_address: usize, beginnings: usize) -> ClientLimits {
        ClientLimits {
            connections,
            connections_per_address: Some(per_address),
            beginnings: Some((beginnings, beginnings)),
            patience: Duration::from_secs(1),
        }
    }

    fn ip(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    /// A client whose request is awaited.
    struct Client {
        place: Arc<Place>,
        listening: Option<Listening>,
        evicted: Pin<Box<Fuse<BoxFuture<'static, ()>>>>,
        _io: Admitted<()>,
    }

    impl Client {
        fn new(clients: &Arc<Clients>, address: &str) -> Self {
            Self::try_new(clients, address).expect("a place")
        }

        fn try_new(clients: &Arc<Clients>, address: &str) -> Option<Self> {
            let (io, place) = clients.admit((), ip(address)).ok()?;
            let (listening, evicted) = place.listen();
            let evicted = Box::pin(evicted.wait().boxed().fuse());
            Some(Self { place, listening: Some(listening), evicted, _io: io })
        }

        /// Also if it was told so before.
        fn is_evicted(&mut self) -> bool {
            self.evicted.is_terminated() || (&mut self.evicted).now_or_never().is_some()
        }

        fn heard(mut self) -> Self {
            self.listening = None;
            self
        }
    }

    #[test]
    fn who_says_nothing_makes_space_for_who_comes_and_nobody_waits() {
        let clients = Clients::new(limits(4, 9, 9));
        let mut good = Client::new(&clients, "10.0.0.1").heard();
        let mut slow = ["10.0.0.2", "10.0.0.3", "10.0.0.3"].map(|at| Client::new(&clients, at));
        let mut new = Client::new(&clients, "10.0.0.2");
        assert_eq!(slow.each_mut().map(Client::is_evicted), [false, true, false]);
        let mut newer = Client::new(&clients, "10.0.0.4");
        assert_eq!(
            slow.each_mut().map(Client::is_evicted),
            [true, true, false],
            "of 2, the oldest"
        );
        assert!(!good.is_evicted() && !new.is_evicted() && !newer.is_evicted());
        assert_eq!(clients.books().clients, 4);
        drop(slow);
        assert_eq!(clients.books().clients, 3, "who was evicted counts no more");
        drop((new, newer, good));
        assert!(clients.books().addresses.is_empty(), "an address that is gone is forgotten");
        let books = clients.books();
        assert_eq!((books.clients, books.unheard.len()), (0, 0));
    }

    #[test]
    fn who_is_heard_keeps_its_place_and_the_rest_is_for_those_without_a_room() {
        let clients = Clients::new(limits(2, 9, 9));
        let heard = ["10.0.0.1", "10.0.0.2"].map(|at| Client::new(&clients, at).heard());
        let mut late = Client::new(&clients, "10.0.0.3");
        assert!(late.place.is_late());
        let later = Client::new(&clients, "10.0.0.4");
        assert!(late.is_evicted(), "the reserve has one place here");
        let _later = later.heard();
        assert!(Client::try_new(&clients, "10.0.0.5").is_none());
        drop(heard);
        assert!(!Client::new(&clients, "10.0.0.5").place.is_late());
    }

    #[test]
    fn an_address_has_its_share_of_places_and_of_beginnings() {
        let clients = Clients::new(limits(9, 2, 3));
        let held = [1, 2].map(|_| Client::new(&clients, "10.0.0.1").heard());
        assert!(Client::new(&clients, "10.0.0.1").place.is_late());
        assert!(!Client::new(&clients, "10.0.0.2").place.is_late());
        drop(held);

        let limits = ClientLimits { beginnings: Some((9, 2)), ..limits(99, 99, 9) };
        let clients = Clients::new(limits);
        let mut slow = [1, 2, 3].map(|_| Client::new(&clients, "10.0.0.1"));
        assert_eq!(slow.each_mut().map(Client::is_evicted), [true, false, false]);
    }

    /// Behind a proxy, an address is known when the request is read.
    #[test]
    fn a_client_may_turn_out_to_be_elsewhere() {
        let clients = Clients::new(limits(9, 2, 9));
        let address = |last| IpAddr::from([10, 0, 1, last]);
        let six: Vec<_> = (0..6)
            .map(|n| {
                let client = Client::new(&clients, "10.0.0.1").heard();
                assert_eq!(client.place.move_to(address(n / 2)), Ok(()));
                client
            })
            .collect();
        let another = Client::new(&clients, "10.0.0.1").heard();
        assert_eq!(another.place.move_to(address(0)), Err(TooMany));
        assert_eq!(another.place.move_to(address(9)), Ok(()));
        drop((six, another));
        assert!(clients.books().addresses.is_empty());
    }

    #[test]
    fn an_address_is_what_one_client_has() {
        let same = |a: &str, b: &str| prefix(a.parse().unwrap()) == prefix(b.parse().unwrap());
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up_unless_it_is_a_socket() {
        let clients = Clients::new(limits(9, 9, 9));
        let (ours, mut theirs) = duplex(4);
        let (mut client, _place) = clients.admit(ours, None).ok().unwrap();
        let reads_late = async {
            sleep(STALL - Duration::from_secs(1)).await;
            theirs.read_exact(&mut [0; 6]).await.unwrap();
        };
        let (written, ()) = tokio::join!(client.write_all(b"abcdefgh"), reads_late);
        written.unwrap();
        let failed = client.write_all(b"abcdefgh").await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);

        let mut socket = client.leave_alone();
        assert!(timeout(4 * STALL, socket.write_all(b"abcdefgh")).await.is_err());
    }
}
