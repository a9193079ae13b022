use std::{
    pin::Pin,
    task::{Context, Waker},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Fuse, FusedFuture},
};
use tokio::{io::duplex, time::sleep};

use super::{
    place::{Listening, TooMany},
    *,
};
use crate::admitted::STALL;

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
    assert_eq!(slow.each_mut().map(Client::is_evicted), [true, true, false], "of 2, the oldest");
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

/// What a client that was let in hears when it waits for more.
fn is_called_back(client: &Client) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    client.place.poll_called_back(&mut cx).is_ready()
}

#[test]
fn what_nobody_else_needs_is_lent_and_called_back() {
    let limits = ClientLimits { connections_per_address: None, ..limits(8, 0, 8) };
    let clients = Clients::new(limits);
    let proxy: Vec<_> = (0..8).map(|_| Client::new(&clients, "10.0.0.1").heard()).collect();
    assert!(proxy.iter().all(|client| !client.place.is_late()), "alone it has all");
    assert!(Client::new(&clients, "10.0.0.1").place.is_late());
    let others: Vec<_> = (0..2).map(|_| Client::new(&clients, "10.0.0.2").heard()).collect();
    assert!(others.iter().all(|client| !client.place.is_late()));
    let called = proxy.iter().map(is_called_back).collect::<Vec<_>>();
    assert_eq!(called, [false, false, false, false, false, false, true, true], "six are its share");
    assert!(called.iter().zip(&proxy).all(|(called, client)| *called == is_called_back(client)));
    assert!(Client::new(&clients, "10.0.0.2").place.is_late(), "what is left is its share");
    assert_eq!(clients.books().clients, 8);
    drop((proxy, others));
    let books = clients.books();
    assert_eq!((books.clients, books.lent.len(), books.addresses.len()), (0, 0, 0));
}

/// It counts once, whichever of both takes its place.
#[test]
fn a_lent_place_of_a_client_that_says_nothing_is_taken_once() {
    let limits = ClientLimits { connections_per_address: None, ..limits(8, 0, 8) };
    let clients = Clients::new(limits);
    let heard: Vec<_> = (0..7).map(|_| Client::new(&clients, "10.0.0.1").heard()).collect();
    let mut silent = Client::new(&clients, "10.0.0.1");
    let other = Client::new(&clients, "10.0.0.2").heard();
    assert!(silent.is_evicted() && !is_called_back(&silent) && !is_called_back(&silent));
    assert!(!heard.iter().any(is_called_back));
    let another = Client::new(&clients, "10.0.0.3").heard();
    assert!(is_called_back(&heard[6]));
    assert_eq!(clients.books().clients, 8);
    drop((heard, silent, other, another));
    let books = clients.books();
    assert_eq!((books.clients, books.lent.len(), books.unheard.len()), (0, 0, 0));
}

/// All that come through a proxy that has not said yet where they are.
#[test]
fn who_has_no_address_yet_has_no_share_of_beginnings() {
    let limits = ClientLimits { beginnings: Some((9, 2)), ..limits(9, 2, 9) };
    let clients = Clients::new(limits);
    let mut unknown: Vec<_> = (0..9)
        .map(|_| {
            let (io, place) = clients.admit((), None).ok().unwrap();
            let (listening, evicted) = place.listen();
            let evicted = Box::pin(evicted.wait().boxed().fuse());
            Client { place, listening: Some(listening), evicted, _io: io }
        })
        .collect();
    assert!(!unknown.iter_mut().any(Client::is_evicted));
    let client = unknown.pop().unwrap().heard();
    assert_eq!(client.place.move_to([10, 0, 0, 7].into()), Ok(()));
    assert_eq!(clients.books().addresses.len(), 1);
}

#[test]
fn a_settled_client_counts_at_its_address_until_it_leaves() {
    let clients = Clients::new(limits(4, 2, 4));
    let settle = |address| {
        let client = Client::new(&clients, address);
        assert!(client.place.settle().is_none(), "its request is awaited");
        let client = client.heard();
        let settled = client.place.settle().expect("nothing is owed");
        assert!(client.place.settle().is_none(), "only once");
        assert_eq!(client.place.move_to([10, 0, 0, 9].into()), Ok(()), "it stays where it is");
        settled
    };
    let (one, other) = (settle("10.0.0.1"), settle("2001:db8::1"));
    assert!(Arc::ptr_eq(&one.0, &other.0), "all share one place");
    let second = Client::new(&clients, "10.0.0.1").heard();
    assert!(Client::new(&clients, "10.0.0.1").place.is_late(), "it has its share");
    assert_eq!(clients.books().clients, 3);
    let counts = || {
        let books = clients.books();
        (books.clients, books.addresses.len())
    };
    for (place, address) in [one, other] {
        place.leave(address);
    }
    assert_eq!(counts(), (1, 1));
    drop(second);
    assert_eq!(counts(), (0, 0));
}

#[test]
fn a_lent_place_does_not_settle() {
    let limits = ClientLimits { connections_per_address: None, ..limits(4, 0, 4) };
    let clients = Clients::new(limits);
    let all: Vec<_> = (0..4).map(|_| Client::new(&clients, "10.0.0.1").heard()).collect();
    let settled = all.iter().filter_map(|client| client.place.settle()).collect::<Vec<_>>();
    assert_eq!(settled.len(), 3, "the fourth is above the share");
    let other = Client::new(&clients, "10.0.0.2").heard();
    assert!(is_called_back(&all[3]) && !other.place.is_late());
    drop((all, other));
    assert_eq!(clients.books().clients, 3, "the settled ones are here");
}
