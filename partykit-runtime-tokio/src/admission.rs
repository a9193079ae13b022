//! How many clients there may be, and how many of them may be at the beginning.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep, timeout},
};

/// How long a client may take nothing of an answer. Twice as long as a socket's client may: what waits
/// for it is one answer and grows no more.
const STALL: Duration = Duration::from_secs(30);

/// What one client too many is told. It did not get to say anything.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n\
    content-length: 0\r\n\r\n";

/// So many are told at the same time. Others are hung up on.
const TOLD: usize = 64;

/// The limits of [`Admission`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdmissionLimits {
    /// Clients of the process, sockets and plain HTTP together.
    pub(crate) connections: usize,
    /// Clients whose first request has not arrived whole.
    pub(crate) beginnings: usize,
    /// Those of them at one address.
    pub(crate) beginnings_per_address: usize,
    /// How long a client may take until its first request has arrived whole, its turn included; also how
    /// long for each further one.
    pub(crate) patience: Duration,
}

impl Default for AdmissionLimits {
    /// 1,024 beginnings, 64 at an address, 10 s, and seven eighths of the descriptors that the process may
    /// have: the rest is for storage, and for what else the program does.
    fn default() -> Self {
        let connections = descriptors().map_or(usize::MAX, |limit| limit - limit / 8);
        Self {
            connections,
            beginnings: 1024,
            beginnings_per_address: 64,
            patience: Duration::from_secs(10),
        }
    }
}

/// Lets clients in.
///
/// A client that is slow to say what it wants keeps only others of its own address waiting: of each
/// address, so many are read from at a time, and the others wait in the order of their arrival. Nobody is
/// turned away for that: behind a proxy, thousands come from one address in the same millisecond.
pub(crate) struct Admission {
    connections: Arc<Semaphore>,
    beginnings: Arc<Semaphore>,
    per_address: usize,
    patience: Duration,
    addresses: Mutex<HashMap<IpAddr, Address>>,
    told: Semaphore,
}

struct Address {
    beginnings: Arc<Semaphore>,
    /// Those that have begun and those that wait to.
    clients: usize,
}

impl Admission {
    pub(crate) fn new(limits: AdmissionLimits) -> Arc<Self> {
        let permits = |limit: usize| Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self {
            connections: permits(limits.connections),
            beginnings: permits(limits.beginnings),
            per_address: limits.beginnings_per_address.min(Semaphore::MAX_PERMITS),
            patience: limits.patience,
            addresses: Mutex::default(),
            told: Semaphore::new(TOLD),
        })
    }

    /// See [`AdmissionLimits::patience`].
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// A client, unless there are too many.
    ///
    /// # Errors
    ///
    /// `io` comes back, to be [refused](Admission::refuse).
    pub(crate) fn admit<I>(&self, io: I) -> Result<Admitted<I>, I> {
        match self.connections.clone().try_acquire_owned() {
            Ok(place) => Ok(Admitted { io, _place: place, patience: Some(STALL), stall: None }),
            Err(_) => Err(io),
        }
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

    /// Waits until a client at this address may begin. It has when the result is dropped.
    pub(crate) async fn begin(self: &Arc<Self>, address: Option<IpAddr>) -> Beginning {
        let queue = address.map(|address| Queue::join(self, prefix(address)));
        let own = match &queue {
            Some(queue) => queue.beginnings.clone().acquire_owned().await.ok(),
            None => None,
        };
        let any = self.beginnings.clone().acquire_owned().await.ok();
        Beginning { _own: own, _any: any, _queue: queue }
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, Address>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client whose first request is awaited.
pub(crate) struct Beginning {
    _own: Option<OwnedSemaphorePermit>,
    _any: Option<OwnedSemaphorePermit>,
    _queue: Option<Queue>,
}

/// A place among the clients of an address.
struct Queue {
    admission: Arc<Admission>,
    address: IpAddr,
    beginnings: Arc<Semaphore>,
}

impl Queue {
    fn join(admission: &Arc<Admission>, address: IpAddr) -> Self {
        let mut addresses = admission.addresses();
        let queue = addresses.entry(address).or_insert_with(|| Address {
            beginnings: Arc::new(Semaphore::new(admission.per_address)),
            clients: 0,
        });
        queue.clients += 1;
        Self { admission: admission.clone(), address, beginnings: queue.beginnings.clone() }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut addresses = self.admission.addresses();
        if let Some(queue) = addresses.get_mut(&self.address) {
            queue.clients -= 1;
            if queue.clients == 0 {
                addresses.remove(&self.address);
            }
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

/// A client's stream, and its place among the clients of the process for as long as it lives.
pub(crate) struct Admitted<I> {
    io: I,
    _place: OwnedSemaphorePermit,
    /// How long it may take nothing, if that is to be looked after.
    patience: Option<Duration>,
    stall: Option<Pin<Box<Sleep>>>,
}

impl<I> Admitted<I> {
    /// The stream itself.
    pub(crate) fn io(&self) -> &I {
        &self.io
    }

    /// It became a socket, which looks after its time by itself.
    pub(crate) fn leave_alone(mut self) -> Self {
        (self.patience, self.stall) = (None, None);
        self
    }

    /// Ends the patience with a client that takes nothing.
    fn look_after<T>(
        &mut self,
        cx: &mut Context<'_>,
        attempt: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(patience) = self.patience else { return attempt };
        if attempt.is_ready() {
            self.stall = None;
            return attempt;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(patience)));
        match stall.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Admitted<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Admitted<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.look_after(cx, attempt)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.look_after(cx, attempt)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let attempt = Pin::new(&mut self.io).poll_flush(cx);
        self.look_after(cx, attempt)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let attempt = Pin::new(&mut self.io).poll_shutdown(cx);
        self.look_after(cx, attempt)
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
    use futures_util::FutureExt;
    use tokio::io::duplex;

    use super::*;

    fn limits(
        connections: usize,
        beginnings: usize,
        beginnings_per_address: usize,
    ) -> AdmissionLimits {
        let patience = Duration::from_secs(1);
        AdmissionLimits { connections, beginnings, beginnings_per_address, patience }
    }

    fn ip(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    #[test]
    fn an_address_waits_for_itself_alone() {
        let admission = Admission::new(limits(9, 3, 2));
        let begin = |address: &str| admission.begin(ip(address)).now_or_never();
        let (first, second) = (begin("10.0.0.1").unwrap(), begin("10.0.0.1").unwrap());
        assert!(begin("10.0.0.1").is_none(), "a third of the address");
        let other = begin("10.0.0.2").unwrap();
        assert!(begin("10.0.0.3").is_none(), "a fourth of all");
        drop(first);
        let third = begin("10.0.0.1").unwrap();
        drop((second, third, other));
        assert!(admission.addresses().is_empty(), "an address that is gone is forgotten");
        assert_eq!(admission.beginnings.available_permits(), 3);
    }

    #[test]
    fn beginnings_are_let_in_as_they_came() {
        let admission = Admission::new(limits(9, 9, 1));
        let first = admission.begin(ip("::1")).now_or_never().unwrap();
        let mut second = Box::pin(admission.begin(ip("::2")));
        let mut third = Box::pin(admission.begin(ip("::3")));
        assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
        drop(first);
        assert!((&mut third).now_or_never().is_none());
        let second = (&mut second).now_or_never().unwrap();
        // Whoever gives up lets those behind go on.
        drop((second, third));
        assert!(admission.begin(ip("::4")).now_or_never().is_some());
    }

    #[test]
    fn an_address_is_what_one_client_has() {
        let same = |a: &str, b: &str| prefix(a.parse().unwrap()) == prefix(b.parse().unwrap());
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
    }

    #[test]
    fn a_client_has_its_place_while_it_is_there() {
        let admission = Admission::new(limits(1, 9, 9));
        let admitted = admission.admit("a").ok().unwrap();
        assert_eq!(admission.admit("b").err(), Some("b"));
        drop(admitted.leave_alone());
        assert!(admission.admit("b").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up_unless_it_is_a_socket() {
        let admission = Admission::new(limits(9, 9, 9));
        let (ours, mut theirs) = duplex(4);
        let mut client = admission.admit(ours).ok().unwrap();
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
