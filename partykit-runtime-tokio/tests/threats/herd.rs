use std::{
    collections::HashMap,
    env, fs,
    future::pending,
    mem,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, future::join_all};
use partykit_core::{Connection, Message, Options, Result, Room, Server};
use partykit_runtime_tokio::{Builder, Runtime, bind};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout},
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite};

use crate::support::within;

/// PartySocket gives a handshake up after this time.
const HANDSHAKE: Duration = Duration::from_secs(4);

/// PartySocket 1.3 waits this many seconds before each try, without any jitter, and 10 from then on.
const WAITS: [f64; 6] = [0.0, 3.0, 3.9, 5.1, 6.6, 8.6];

/// All have to be back after this time.
const BACK: Duration = Duration::from_secs(20);

const ROOMS: usize = 10;

type Starts = Arc<Mutex<HashMap<String, u32>>>;

/// Counts the starts of each room.
struct Counter(Starts);

impl Server for Counter {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_start(&mut self, room: &Room) -> Result {
        *self.0.lock().unwrap().entry(room.id().to_owned()).or_default() += 1;
        Ok(())
    }

    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        sender.send(message);
        Ok(())
    }
}

/// A client that wants to be connected, as PartySocket does.
struct Sheep {
    addr: SocketAddr,
    number: usize,
    socket: Option<WebSocketStream<TcpStream>>,
    slow_handshakes: usize,
}

impl Sheep {
    /// Tries until it is connected, and tells after each try that failed.
    async fn connect(&mut self, failed: &Semaphore) {
        let waits = WAITS.into_iter().chain(std::iter::repeat(10.0));
        for wait in waits {
            // What the client does, not what the test waits for.
            let _ = timeout(Duration::from_secs_f64(wait), pending::<()>()).await;
            match timeout(HANDSHAKE, self.try_to()).await {
                Ok(Some(socket)) => return self.socket = Some(socket),
                Ok(None) => {}
                Err(_) => self.slow_handshakes += 1,
            }
            failed.add_permits(1);
        }
    }

    async fn try_to(&self) -> Option<WebSocketStream<TcpStream>> {
        let room = self.number % ROOMS;
        let url = format!("ws://{}/parties/main/room{room}?_pk=sheep{}", self.addr, self.number);
        let stream = TcpStream::connect(self.addr).await.ok()?;
        Some(client_async(url, stream).await.ok()?.0)
    }

    /// Waits for the end of its socket, and comes back.
    async fn come_back(&mut self, failed: &Semaphore) -> Duration {
        let mut socket = self.socket.take().unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if let tungstenite::Message::Close(close) = message {
                assert_eq!(u16::from(close.unwrap().code), 1012);
            }
        }
        drop(socket);
        let begin = Instant::now();
        self.connect(failed).await;
        begin.elapsed()
    }
}

fn builder(starts: &Starts) -> Builder {
    let starts = starts.clone();
    let make = move |_: &_| Counter(starts.clone());
    Runtime::builder().party_with("main", make).shutdown_spread(Duration::from_millis(100))
}

/// How many connections the listeners of this network have dropped: `ListenDrops` of Linux, and those of
/// them that found the queue of a listener full, `ListenOverflows`. `None` if the kernel does not count
/// them.
fn dropped_by_listeners() -> Option<[u64; 2]> {
    let text = fs::read_to_string("/proc/net/netstat").ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let count = |wanted: &str| {
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        pairs.find(|(name, _)| *name == wanted)?.1.parse().ok()
    };
    Some([count("ListenDrops")?, count("ListenOverflows")?])
}

/// The server restarts. Nothing listens when its clients come back first, so that all of them wait for the
/// same time and come at once. 500, or as many as `PARTYKIT_HERD` says: `cargo xtask herd` has 5,000 come.
/// With `PARTYKIT_HERD_ALONE` the test has a network of its own, whose kernel counts no other listeners.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_07_reconnect_storm() {
    let size = env::var("PARTYKIT_HERD").map_or(500, |size| size.parse().unwrap());
    let (before, after) = (Starts::default(), Starts::default());
    let listener = bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let runtime = builder(&before).in_memory().build().unwrap();
    let handle = runtime.handle();
    let serving = tokio::spawn(async move { runtime.serve_on(listener).await });
    let sheep = |number| Sheep { addr, number, socket: None, slow_handshakes: 0 };
    let mut herd: Vec<_> = (0..size).map(sheep).collect();
    let failed = Arc::new(Semaphore::new(0));
    for some in herd.chunks_mut(100) {
        within(join_all(some.iter_mut().map(|sheep| sheep.connect(&failed)))).await;
    }

    let returns: Vec<_> = mem::take(&mut herd)
        .into_iter()
        .map(|mut sheep| {
            let failed = failed.clone();
            tokio::spawn(async move { (sheep.come_back(&failed).await, sheep) })
        })
        .collect();
    within(handle.shutdown()).await;
    within(serving).await.unwrap();
    let all = u32::try_from(size).unwrap();
    within(failed.acquire_many(all)).await.unwrap().forget();
    let dropped_before = dropped_by_listeners();
    let listener = bind(addr).await.unwrap();
    let runtime = builder(&after).in_memory().build().unwrap();
    let handle = runtime.handle();
    tokio::spawn(async move { runtime.serve_on(listener).await });

    let mut slowest = Duration::ZERO;
    let mut slow_handshakes = 0;
    let mut back = Vec::new();
    for returned in returns {
        let (took, sheep) =
            timeout(2 * BACK, returned).await.expect("it never comes back").unwrap();
        slowest = slowest.max(took);
        slow_handshakes += sheep.slow_handshakes;
        back.push(sheep);
    }
    println!(
        "{size} clients, the last one back after {slowest:.1?}, {slow_handshakes} slow handshakes"
    );
    let dropped = dropped_before.zip(dropped_by_listeners());
    let dropped = dropped.map(|(before, after)| [after[0] - before[0], after[1] - before[1]]);
    if let Some([drops, overflows]) = dropped {
        println!("dropped by listeners: {drops}, of these because of a full queue: {overflows}");
    }
    if env::var_os("PARTYKIT_HERD_ALONE").is_some() {
        assert_eq!(dropped, Some([0, 0]), "drops, and those of them because of a full queue");
    }
    assert!(slowest <= BACK, "{slowest:?}");
    assert_eq!(slow_handshakes, 0);
    assert_eq!(handle.stats().parties["main"].connections, size);
    let starts = after.lock().unwrap().clone();
    assert_eq!(starts.len(), ROOMS.min(size));
    assert!(starts.values().all(|starts| *starts == 1), "{starts:?}");
}

/// The kernel drops a connection when as many wait as the listener has asked for: its client would have to
/// ask again, after a second.
#[tokio::test]
async fn threat_07_a_herd_may_wait_to_be_accepted() {
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    let allowed = somaxconn.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(4096);
    let listener = bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let herd = (0..1000.min(allowed)).map(|_| TcpStream::connect(addr));
    let connected = within(join_all(herd)).await;
    assert!(connected.iter().all(Result::is_ok), "nothing accepts, and all are in");
}
