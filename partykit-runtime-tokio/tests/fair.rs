//! Busy rooms and quiet ones on one thread.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use partykit_core::{Connection, Message, Request, Response, Result, Room, Server};
use partykit_runtime_tokio::{Builder, Handle, Runtime, bind};

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(60);

/// Tells itself something again and again, once it was told to.
#[derive(Default)]
struct Busy;

impl Server for Busy {
    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        room.party("busy").room(room.id()).tell(Request::default())?;
        Ok(Response::default())
    }
}

#[derive(Default)]
struct Quiet;

impl Server for Quiet {
    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        Ok(Response::new("quiet".into()))
    }
}

/// Says much to many, and then, as its next event, that it has.
struct Loud {
    /// A connection on which a quiet room is asked as soon as this room has said all.
    asks: TcpStream,
    is_done: Arc<AtomicBool>,
}

impl Server for Loud {
    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        if request.uri().path().ends_with("/done") {
            self.is_done.store(true, SeqCst);
            return Ok(Response::default());
        }
        // Enough for some forty slices: a room that yields lets others run first once in seven times.
        for _ in 0..4_000 {
            room.broadcast("a word").send();
        }
        let mut done = Request::default();
        *done.uri_mut() = "/done".parse()?;
        room.party("loud").room(room.id()).tell(done)?;
        self.asks.write_all(ASK)?;
        Ok(Response::default())
    }
}

/// Answers whether the loud room is done.
struct Witness(Arc<AtomicBool>);

impl Server for Witness {
    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        Ok(Response::new(if self.0.load(SeqCst) { "late" } else { "quiet" }.into()))
    }
}

const ASK: &[u8] = b"GET /parties/quiet/a HTTP/1.1\r\nhost: a\r\n\r\n";

/// Tokio looks at its sockets after every turn of a task if it is told to. Then a room that yields must not
/// come before all that the sockets wake.
#[test]
fn busy_rooms_let_quiet_ones_run_at_every_event_interval() {
    for interval in [1, 2, 61] {
        let builder = Runtime::builder().party::<Busy>("busy").party::<Quiet>("quiet");
        let server = Threads::serve(1, interval, builder);
        for room in ["one", "two", "three"] {
            server.request("busy", room);
        }
        let mut client = server.client();
        for _ in 0..10 {
            client.write_all(ASK).unwrap();
            assert_eq!(answer(&mut client), "quiet", "{interval}");
        }
        server.end();
    }
}

/// As before, while a room delivers: this takes it many slices, and in none of them does anything wake it.
#[test]
fn a_room_that_says_much_to_many_lets_quiet_ones_run_at_every_event_interval() {
    for interval in [1, 2, 61] {
        let is_done = Arc::new(AtomicBool::new(false));
        let (sends, asks) = mpsc::channel::<TcpStream>();
        let (asks, done) = (std::sync::Mutex::new(asks), is_done.clone());
        let builder = Runtime::builder()
            .party_with("loud", move |_| Loud {
                asks: asks.lock().unwrap().recv().unwrap(),
                is_done: done.clone(),
            })
            .party_with("quiet", {
                let is_done = is_done.clone();
                move |_| Witness(is_done.clone())
            });
        let server = Threads::serve(1, interval, builder);
        // The server knows the connection, and the room, before all begins.
        let mut client = server.client();
        client.write_all(ASK).unwrap();
        assert_eq!(answer(&mut client), "quiet");
        sends.send(client.try_clone().unwrap()).unwrap();
        let listeners: Vec<TcpStream> = (0..100).map(|_| server.listener("loud")).collect();
        server.request("loud", "a");
        assert_eq!(answer(&mut client), "quiet", "{interval}");
        eventually(|| is_done.load(SeqCst));
        drop(listeners);
        // A shutdown would wait for clients that it knows.
        eventually(|| server.handle.stats().parties["loud"].connections == 0);
        server.end();
    }
}

/// How often each of two threads has begun to wait and has ended that. Odd while it waits.
type Waits = [u64; 2];

fn waits(tokio: &tokio::runtime::Handle) -> Waits {
    [0, 1].map(|thread| tokio.metrics().worker_park_unpark_count(thread))
}

/// Blocks its thread until it is told to end.
struct Blocked {
    begins: mpsc::Sender<Waits>,
    ends: Arc<std::sync::Mutex<mpsc::Receiver<()>>>,
}

impl Server for Blocked {
    async fn on_message(&mut self, _: &Room, sender: &Connection, _: Message) -> Result {
        self.begins.send(waits(&tokio::runtime::Handle::current()))?;
        self.ends.lock().unwrap().recv_timeout(NEVER)?;
        sender.send("over");
        Ok(())
    }
}

/// The thread that is blocked was the one that looked at the sockets, and the other one sleeps all along.
#[test]
fn a_handler_that_blocks_its_thread_lets_the_other_thread_go_on() {
    let ((begins, begun), (end, ends)) = (mpsc::channel(), mpsc::channel());
    let ends = Arc::new(std::sync::Mutex::new(ends));
    let builder = Runtime::builder()
        .party::<Quiet>("quiet")
        .party_with("blocked", move |_| Blocked { begins: begins.clone(), ends: ends.clone() });
    let server = Threads::serve(2, 61, builder);
    let (mut quiet, mut blocked) = (server.client(), server.listener("blocked"));
    quiet.write_all(ASK).unwrap();
    assert_eq!(answer(&mut quiet), "quiet");
    let start = Instant::now();
    loop {
        let mut before = waits(server.tokio.handle());
        eventually(|| {
            before = waits(server.tokio.handle());
            before.iter().all(|count| count % 2 == 1)
        });
        blocked.write_all(b"\x81\x81\0\0\0\0.").unwrap();
        let now = begun.recv_timeout(NEVER).unwrap();
        // Both waited, and only one of them was woken by the message. So that one has looked at the sockets.
        let is_so = before.iter().zip(now).filter(|(before, now)| **before == *now).count() == 1;
        if is_so {
            quiet.write_all(ASK).unwrap();
            assert_eq!(answer(&mut quiet), "quiet", "the other thread has to wait for this one");
        }
        end.send(()).unwrap();
        assert_eq!(answer(&mut blocked), "\u{FFFD}\u{4}over");
        if is_so {
            break;
        }
        assert!(start.elapsed() < NEVER, "the other thread is always woken, too");
    }
    server.end();
}

/// A runtime with a few threads, which look at their sockets after `interval` turns of tasks.
struct Threads {
    tokio: tokio::runtime::Runtime,
    address: SocketAddr,
    handle: Handle,
}

impl Threads {
    fn serve(threads: usize, interval: u32, builder: Builder) -> Self {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .event_interval(interval)
            .enable_all()
            .build()
            .unwrap();
        let (address, handle) = tokio.block_on(async {
            let runtime = builder.in_memory().build().unwrap();
            let (handle, listener) = (runtime.handle(), bind("127.0.0.1:0").await.unwrap());
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move { runtime.serve_on(listener).await });
            (address, handle)
        });
        Self { tokio, address, handle }
    }

    /// From within.
    fn request(&self, party: &str, room: &str) {
        let request = self.handle.request(party, room, Request::default());
        self.tokio.block_on(request).unwrap();
    }

    fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(NEVER)).unwrap();
        client
    }

    /// A WebSocket to the room `a`, of a client that reads nothing more.
    fn listener(&self, party: &str) -> TcpStream {
        let mut client = self.client();
        let request = format!(
            "GET /parties/{party}/a HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        client.write_all(request.as_bytes()).unwrap();
        let mut head = [0; 1024];
        let length = client.read(&mut head).expect("an answer");
        assert!(head[..length].starts_with(b"HTTP/1.1 101"));
        client
    }

    fn end(self) {
        let (ended, end) = mpsc::channel();
        let handle = self.handle;
        self.tokio.spawn(async move {
            handle.shutdown().await;
            ended.send(()).unwrap();
        });
        end.recv_timeout(NEVER).expect("the rooms end");
    }
}

fn eventually(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < NEVER, "it takes too long");
        thread::yield_now();
    }
}

/// The text of the next answer.
fn answer(client: &mut TcpStream) -> String {
    let mut answer = [0; 1024];
    let length = client.read(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..length]);
    answer.rsplit("\r\n").next().unwrap_or_default().to_owned()
}
