#[path = "../in_process/mod.rs"]
mod in_process;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, future::join_all};
use partykit_core::{
    Body, CallError, Close, Connection, Message, Options, Refusal, Request, Response, Result, Room,
    Server,
};
use partykit_runtime_tokio::{Listener, Runtime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::Instant,
};
use tokio_tungstenite::client_async;

use in_process::Within;

use crate::support::{Client, Site, eventually, parse, serve, within};

/// Answers when it gets a permit.
struct Busy {
    entered: Arc<Semaphore>,
    permits: Arc<Semaphore>,
    closes: Arc<AtomicUsize>,
    starts: Arc<AtomicUsize>,
}

impl Server for Busy {
    fn options() -> Options {
        Options::new().hibernate(true).hibernate_after(Duration::from_secs(3600))
    }

    async fn on_start(&mut self, _: &Room) -> Result {
        self.starts.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, _: &Connection, message: Message) -> Result {
        self.entered.add_permits(1);
        self.permits.acquire().await?.forget();
        room.storage().put("said", &message.as_text())?;
        room.broadcast(message).send();
        Ok(())
    }

    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        self.entered.add_permits(1);
        self.permits.acquire().await?.forget();
        Ok(Response::new(Body::from("done")))
    }

    async fn on_close(&mut self, _: &Room, _: &Connection, _: Close) -> Result {
        self.closes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test]
async fn what_runs_ends_and_sockets_are_told_to_come_back() {
    let (entered, permits) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (closes, starts) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (e, p, c, s) = (entered.clone(), permits.clone(), closes.clone(), starts.clone());
    let make = move |_: &_| Busy {
        entered: e.clone(),
        permits: p.clone(),
        closes: c.clone(),
        starts: s.clone(),
    };
    let builder = Runtime::builder().party_with("busy", make).party::<Quiet>("quiet");
    let mut site = serve(builder).await;

    let mut talker = site.connect("/parties/busy/talking").await;
    let mut sleeper = site.connect("/parties/busy/sleeping").await;
    within(site.handle.evict("busy", "sleeping")).await.unwrap();
    talker.send("last words").await;
    let addr = site.addr;
    let mut stream = site.stream().await;
    let asking = tokio::spawn(async move {
        let request = format!("GET /parties/busy/asked HTTP/1.1\r\nhost: {addr}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        parse(&crate::support::read_to_end(&mut stream).await)
    });
    within(entered.acquire_many(2)).await.unwrap().forget();
    // Waits behind the one that runs, and never will.
    talker.send("too late").await;

    let handle = site.handle.clone();
    let down = tokio::spawn(async move { handle.shutdown().await });
    let refused = within(async {
        loop {
            match site.handle.request("quiet", "new", Request::default()).await {
                Err(CallError::Refused(_, refusal)) => break refusal,
                _ => tokio::task::yield_now().await,
            }
        }
    });
    permits.add_permits(2);
    assert_eq!(refused.await, Refusal::ShuttingDown);
    assert_eq!(talker.text().await, "last words");
    assert_eq!(talker.closed().await, (1012, "the server restarts".into()));
    assert_eq!(sleeper.closed().await.0, 1012);
    assert_eq!(within(asking).await.unwrap().body(), "done");

    within(down).await.unwrap();
    within(&mut site.serving).await.unwrap();
    within(site.handle.shutdown()).await;
    assert!(site.try_stream().await.is_err(), "nobody listens");
    assert_eq!(site.handle.stats().parties["busy"].rooms, 0);
    assert_eq!(closes.load(Ordering::SeqCst), 0, "no on_close runs");
    assert_eq!(starts.load(Ordering::SeqCst), 3, "nobody was woken");
}

/// A handler that never ends keeps the clients of its room, and no others.
#[tokio::test]
async fn a_room_that_is_done_waits_for_no_other() {
    let (entered, permits) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (e, p) = (entered.clone(), permits.clone());
    let make = move |_: &_| Busy {
        entered: e.clone(),
        permits: p.clone(),
        closes: Arc::default(),
        starts: Arc::default(),
    };
    let builder = Runtime::builder().party_with("busy", make);
    let site = serve(builder.shutdown_grace(Duration::from_secs(3600))).await;
    let mut stuck = site.connect("/parties/busy/stuck").await;
    let mut idle = site.connect("/parties/busy/idle").await;
    stuck.send("said at last").await;
    within(entered.acquire()).await.unwrap().forget();
    let handle = site.handle.clone();
    let down = tokio::spawn(async move { handle.shutdown().await });
    assert_eq!(idle.closed().await.0, 1012);
    permits.add_permits(1);
    assert_eq!(stuck.text().await, "said at last");
    assert_eq!(stuck.closed().await.0, 1012);
    within(down).await.unwrap();
}

/// Tells in which task it is asked for a connection. None ever comes.
struct Door(mpsc::Sender<Option<tokio::task::Id>>);

impl Listener for Door {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, Option<SocketAddr>)> {
        self.0.send(tokio::task::try_id()).await.unwrap();
        std::future::pending().await
    }
}

/// What accepts is a task of the runtime, wherever the future that serves is polled, and ends with it.
#[tokio::test]
async fn connections_are_accepted_in_a_task() {
    assert_eq!(tokio::task::try_id(), None, "the test itself runs in no task");
    let runtime = Runtime::builder().party::<Quiet>("quiet").in_memory().build().unwrap();
    let (asked, mut asks) = mpsc::channel(1);
    tokio::select! {
        task = within(asks.recv()) => assert!(task.unwrap().is_some()),
        () = runtime.serve_on(Door(asked)) => unreachable!(),
    }
    assert_eq!(within(asks.recv()).await, None, "nobody accepts any more");
}

/// One client of a room after another is told, so that not all of them come back at once.
#[tokio::test(start_paused = true)]
async fn clients_are_told_over_the_spread() {
    let builder = Runtime::builder().party::<Quiet>("quiet").in_memory();
    let runtime = builder.shutdown_spread(Duration::from_secs(5)).build().unwrap();
    let (handle, (knock, door)) = (runtime.handle(), mpsc::channel(1));
    tokio::spawn(async move { runtime.serve_on(Within(door)).await });
    let mut clients = Vec::new();
    for _ in 0..5 {
        let (ours, theirs) = duplex(4096);
        knock.send(theirs).await.unwrap();
        let connecting = client_async("ws://localhost/parties/quiet/room", ours);
        clients.push(connecting.await.unwrap().0);
    }
    let begun = Instant::now();
    let told = clients.into_iter().map(|mut client| async move {
        let close = client.next().await.unwrap().unwrap();
        assert!(close.is_close(), "{close}");
        let told = begun.elapsed();
        // Answers the Close, and hangs up.
        while client.next().await.is_some() {}
        told.as_secs()
    });
    let (mut told, ()) = tokio::join!(join_all(told), handle.shutdown());
    told.sort_unstable();
    assert_eq!(told, [0, 1, 2, 3, 4]);
}

#[derive(Default)]
struct Quiet;

impl Server for Quiet {}

#[tokio::test]
async fn every_client_is_told() {
    let site = serve(Runtime::builder().party::<Quiet>("quiet")).await;
    let paths = (0..50).map(|n| format!("/parties/quiet/{}", n % 7));
    let clients = join_all(paths.map(|path| {
        let site = &site;
        async move { site.connect(&path).await }
    }))
    .await;
    // A connection that has said nothing yet holds nobody up.
    let _idle = site.stream().await;
    let closed =
        join_all(clients.into_iter().map(|mut client| async move { client.closed().await }));
    let (closed, ()) = tokio::join!(closed, within(site.handle.shutdown()));
    assert!(closed.iter().all(|(code, _)| *code == 1012));
}

/// Lets nobody in without a permit.
struct Porter {
    entered: Arc<Semaphore>,
    permits: Arc<Semaphore>,
}

impl Server for Porter {
    async fn on_connect(&mut self, _: &Room, _: &Connection, _: &Request) -> Result {
        self.entered.add_permits(1);
        self.permits.acquire().await?.forget();
        Ok(())
    }
}

/// The one whose `on_connect` runs, and the one who waits behind it.
#[tokio::test]
async fn whoever_is_at_the_door_is_sent_away() {
    let (entered, permits) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (e, p) = (entered.clone(), permits.clone());
    let make = move |_: &_| Porter { entered: e.clone(), permits: p.clone() };
    let site = serve(Runtime::builder().party_with("door", make)).await;
    let connect =
        || async { within(site.try_connect("/parties/door/a", &[])).await.err().unwrap() };
    let down = async {
        within(entered.acquire()).await.unwrap().forget();
        let waiting = || site.handle.room_stats("door", "a").map_or(0, |room| room.mailbox);
        eventually(|| waiting() == 1).await;
        let release = async {
            let ask = || site.handle.request("door", "b", Request::default());
            while !matches!(ask().await, Err(CallError::Refused(_, Refusal::ShuttingDown))) {
                tokio::task::yield_now().await;
            }
            permits.add_permits(1);
        };
        within(async { tokio::join!(site.handle.shutdown(), release) }).await;
    };
    let (first, second, ()) = tokio::join!(connect(), connect(), down);
    assert_eq!([first.status(), second.status()], [503; 2]);
}

/// A server that shuts down while a handler waits for a permit.
struct Leaving {
    site: Site,
    /// Its message "first" is what the handler handles.
    talker: Client,
    down: JoinHandle<()>,
    entered: Arc<Semaphore>,
    permits: Arc<Semaphore>,
}

async fn leaving() -> Leaving {
    let (entered, permits) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (e, p) = (entered.clone(), permits.clone());
    let make = move |_: &_| Busy {
        entered: e.clone(),
        permits: p.clone(),
        closes: Arc::default(),
        starts: Arc::default(),
    };
    let site = serve(Runtime::builder().party_with("busy", make)).await;
    let mut talker = site.connect("/parties/busy/a").await;
    talker.send("first").await;
    within(entered.acquire()).await.unwrap().forget();
    let handle = site.handle.clone();
    let down = tokio::spawn(async move { handle.shutdown().await });
    Leaving { site, talker, down, entered, permits }
}

/// A room that goes down takes no message and loses none: its sockets are not read any more.
#[tokio::test]
async fn what_is_said_after_it_began_is_not_taken() {
    let Leaving { site, mut talker, down, entered, permits } = leaving().await;
    let ask = || site.handle.request("busy", "b", Request::default());
    while !matches!(within(ask()).await, Err(CallError::Refused(_, Refusal::ShuttingDown))) {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        talker.send("late").await;
    }
    // Time enough for the runtime to read what has arrived, if it would.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let room = site.handle.room_stats("busy", "a").unwrap();
    assert_eq!(room.account.dropped_messages, 0);
    permits.add_permits(200);
    assert_eq!(talker.text().await, "first");
    assert_eq!(talker.closed().await.0, 1012);
    within(down).await.unwrap();
    assert_eq!(entered.available_permits(), 0, "no handler has seen them");
}

/// While a handler still runs, clients that come back do not wait in a queue that no process reads.
#[tokio::test]
async fn clients_that_come_back_meanwhile_are_refused_at_once() {
    let Leaving { site, mut talker, down, permits, .. } = leaving().await;
    let is_refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    while !within(site.try_stream()).await.err().is_some_and(is_refused) {
        tokio::task::yield_now().await;
    }
    permits.add_permits(1);
    assert_eq!(talker.text().await, "first");
    assert_eq!(talker.closed().await.0, 1012);
    within(down).await.unwrap();
}

/// More than the operating system takes for a client that reads nothing.
const LARGE: usize = 8 << 20;

/// Answers with that.
#[derive(Default)]
struct Large;

impl Server for Large {
    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        Ok(Response::new(vec![b'x'; LARGE].into()))
    }
}

/// Hyper has all of it, and the shutdown ends the connection behind it.
#[tokio::test]
async fn an_answer_that_waits_for_its_client_arrives_whole() {
    let site = serve(Runtime::builder().party::<Large>("large")).await;
    let mut stream = site.stream().await;
    let request = format!("GET /parties/large/a HTTP/1.1\r\nhost: {}\r\n\r\n", site.addr);
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = vec![0];
    within(stream.read_exact(&mut answer)).await.unwrap();
    let handle = site.handle.clone();
    let shutdown = tokio::spawn(async move { handle.shutdown().await });
    within(async { while site.try_stream().await.is_ok() {} }).await;
    within(stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!(parse(&answer).body().len(), LARGE);
    within(shutdown).await.unwrap();
}
