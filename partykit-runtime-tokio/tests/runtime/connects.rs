use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use partykit_core::{
    Body, Close, Connection, Message, Options, Request, RequestExt, Response, Result, Room, RoomId,
    Server,
};
use partykit_runtime_tokio::Runtime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, mpsc},
};

use crate::support::{eventually, serve, tells_only_an_id, within};

/// Counts starts, which take a while, and insists that nothing else runs meanwhile.
struct Slow {
    starts: Arc<AtomicUsize>,
    started: bool,
}

impl Server for Slow {
    async fn on_start(&mut self, _: &Room) -> Result {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        self.starts.fetch_add(1, Ordering::SeqCst);
        self.started = true;
        Ok(())
    }

    async fn on_connect(&mut self, _: &Room, connection: &Connection, _: &Request) -> Result {
        connection.send(format!("{} {}", self.started, self.starts.load(Ordering::SeqCst)));
        Ok(())
    }

    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        let seen = format!("{} {}", self.started, self.starts.load(Ordering::SeqCst));
        Ok(Response::new(seen.into()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_first_events_see_one_finished_start() {
    let starts = Arc::new(AtomicUsize::new(0));
    let made = starts.clone();
    let make = move |_: &_| Slow { starts: made.clone(), started: false };
    let site = serve(Runtime::builder().party_with("slow", make)).await;
    let requests = (0..100).map(|_| async {
        assert_eq!(site.get("/parties/slow/a").await.body(), "true 1");
    });
    let sockets = (0..100).map(|_| async {
        let mut client = site.connect("/parties/slow/a").await;
        assert_eq!(client.text().await, "true 1");
        client
    });
    let (_, sockets) = tokio::join!(join_all(requests), join_all(sockets));
    assert_eq!(starts.load(Ordering::SeqCst), 1);
    assert_eq!(site.handle.room_stats("slow", "a").unwrap().connections, 100);
    drop(sockets);
}

/// Fails to start while it is told to.
struct Shaky(Arc<AtomicBool>);

impl Server for Shaky {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_start(&mut self, _: &Room) -> Result {
        if self.0.load(Ordering::SeqCst) { Err("the secret detail".into()) } else { Ok(()) }
    }

    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        Ok(Response::new(Body::from("up")))
    }
}

#[tokio::test]
async fn a_failed_start_fails_its_event_and_the_next_one_tries_again() {
    let broken = Arc::new(AtomicBool::new(true));
    let state = broken.clone();
    let site = serve(Runtime::builder().party_with("shaky", move |_| Shaky(state.clone()))).await;

    let answer = site.get("/parties/shaky/a").await;
    assert_eq!(answer.status(), 500);
    assert!(tells_only_an_id(answer.body(), "secret"), "{}", answer.body());
    let (code, reason) = site.connect("/parties/shaky/a").await.closed().await;
    assert_eq!(code, 1011);
    assert!(tells_only_an_id(&reason, "secret"), "{reason}");

    broken.store(false, Ordering::SeqCst);
    assert_eq!(site.get("/parties/shaky/a").await.body(), "up");
    let _client = site.connect("/parties/shaky/a").await;

    within(site.handle.evict("shaky", "a")).await.unwrap();
    broken.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(site.get("/parties/shaky/a").await.status(), 500);
    }
    let refused = site.get("/parties/shaky/a").await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(site.try_connect("/parties/shaky/a", &[]).await.err().unwrap().status(), 503);
}

/// Lets in those who say `in`, and tells how it goes.
struct Picky(mpsc::UnboundedSender<String>);

impl Server for Picky {
    async fn on_connect(&mut self, _: &Room, connection: &Connection, request: &Request) -> Result {
        connection.send("hello");
        match request.query("do").as_deref() {
            Some("in") => Ok(()),
            Some("panic") => panic!("the secret detail"),
            _ => Err("the secret detail".into()),
        }
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, _: Message) -> Result {
        sender.send(room.count().to_string());
        Ok(())
    }

    async fn on_close(&mut self, room: &Room, connection: &Connection, close: Close) -> Result {
        let listed = room.connections().any(|listed| listed == *connection);
        self.0.send(format!("{} {} {listed}", connection.id(), close.code()))?;
        Ok(())
    }
}

#[tokio::test]
async fn a_failed_connect_is_closed_and_was_never_here() {
    let (closes, mut closed) = mpsc::unbounded_channel();
    let builder = Runtime::builder().party_with("picky", move |_| Picky(closes.clone()));
    let site = serve(builder).await;
    let mut friend = site.connect("/parties/picky/a?do=in&_pk=friend").await;
    assert_eq!(friend.text().await, "hello");
    for doing in ["fail", "panic"] {
        let mut client = site.connect(&format!("/parties/picky/a?do={doing}")).await;
        let (code, reason) = loop {
            // What was said before the failure may come first: nothing had been written.
            match client.closed_or_text().await {
                Ok(close) => break close,
                Err(text) => assert_eq!(text, "hello"),
            }
        };
        assert_eq!(code, 1011);
        assert!(tells_only_an_id(&reason, "secret"), "{reason}");
        friend.send("how many?").await;
        assert_eq!(friend.text().await, "1");
    }
    friend.close().await;
    assert_eq!(within(closed.recv()).await.unwrap(), "friend 1005 false");
}

#[tokio::test]
async fn an_id_is_the_clients_or_fresh() {
    let (closes, mut closed) = mpsc::unbounded_channel();
    let builder = Runtime::builder().party_with("picky", move |_| Picky(closes.clone()));
    let site = serve(builder).await;
    for bad in ["_pk=", "_pk=%zz", "_pk", &format!("_pk={}", "x".repeat(257))] {
        let answer = site.try_connect(&format!("/parties/picky/a?{bad}"), &[]).await.err().unwrap();
        assert_eq!(answer.status(), 400, "{bad}");
    }
    assert!(site.handle.room_stats("picky", "a").is_none());
    let mut fresh = std::collections::HashSet::new();
    for _ in 0..3 {
        site.connect("/parties/picky/a?do=in").await.close().await;
        let id = within(closed.recv()).await.unwrap().split(' ').next().unwrap().to_owned();
        assert!((21..=36).contains(&id.len()) && fresh.insert(id));
    }
}

/// Holds every connect up until it gets a permit.
struct Held {
    entered: Arc<Semaphore>,
    permits: Arc<Semaphore>,
}

impl Server for Held {
    fn options() -> Options {
        Options::new().hibernate_after(Duration::ZERO)
    }

    async fn on_connect(&mut self, _: &Room, _: &Connection, _: &Request) -> Result {
        self.entered.add_permits(1);
        self.permits.acquire().await?.forget();
        Ok(())
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_its_handshake_ends_leaves_nothing() {
    let (entered, permits) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (e, p) = (entered.clone(), permits.clone());
    let make = move |_: &_| Held { entered: e.clone(), permits: p.clone() };
    let site = serve(Runtime::builder().party_with("held", make)).await;

    let connecting = async { drop(site.connect("/parties/held/a").await) };
    let gone = async { within(entered.acquire()).await.unwrap().forget() };
    tokio::select! {
        () = connecting => panic!("the handshake ended"),
        () = gone => {}
    }
    permits.add_permits(1);
    eventually(|| site.handle.room_stats("held", "a").is_none()).await;
}

#[tokio::test]
async fn a_second_socket_with_an_id_stands_beside_the_first_which_is_asked_whether_it_lives() {
    let (closes, _closed) = mpsc::unbounded_channel();
    let builder = Runtime::builder().party_with("picky", move |_| Picky(closes.clone()));
    let site = serve(builder).await;
    let mut first = site.connect("/parties/picky/a?do=in&_pk=me").await;
    assert_eq!(first.text().await, "hello");
    let mut other = site.connect("/parties/picky/a?do=in&_pk=other").await;
    let mut second = site.connect("/parties/picky/a?do=in&_pk=me").await;
    first.pinged().await;
    for client in [&mut first, &mut second, &mut other] {
        client.send("how many?").await;
    }
    assert_eq!(first.text().await, "3");
    for client in [&mut second, &mut other] {
        // Nothing but what was said to them: they were not asked.
        assert_eq!(client.message().await, "hello".into());
        assert_eq!(client.message().await, "3".into());
    }
}

/// Who has seen the answer to its Close may count on its place being free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_forgotten_before_its_close_is_answered() {
    struct Silent;

    impl Server for Silent {}

    let site = serve(Runtime::builder().party_with("silent", |_: &RoomId| Silent)).await;
    for _ in 0..300 {
        let mut socket = site.connect("/parties/silent/a").await.into_raw();
        socket.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
        within(socket.read_exact(&mut [0; 2])).await.unwrap();
        let listed = site.handle.room_stats("silent", "a").map_or(0, |room| room.connections);
        assert_eq!(listed, 0);
    }
}
