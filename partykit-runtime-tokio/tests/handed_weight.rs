//! What connections take of the heap of a process that has taken them over, counted at the allocator. In a binary
//! of its own, which also is the server: the whole process's memory is counted.
#![cfg(unix)]

mod at_rest;
mod upgraded;

use std::{
    env,
    io::{BufRead, BufReader, Lines, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStdout, Command, Stdio, exit, id},
    time::{Duration, Instant},
};

use partykit_core::{
    Connection, Message, Options, Request, Response, Result, Room, RoomPhase, Server,
};
use partykit_runtime_tokio::{Handle, Runtime, bind};
use peak_alloc::PeakAlloc;

use at_rest::at_rest;
use upgraded::upgraded;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Enough that what the process itself takes, which differs a little, is nothing beside it.
const CONNECTIONS: usize = 2000;

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(60);

/// Set in the processes that are the server.
const SERVES: &str = "PARTYKIT_TEST_SERVES";

#[derive(Default)]
struct Relay;

impl Server for Relay {
    fn options() -> Options {
        Options::new().hibernate(true).hibernate_after(Duration::ZERO)
    }

    async fn on_connect(&mut self, _: &Room, connection: &Connection, _: &Request) -> Result {
        connection.set_state(&7)?;
        Ok(())
    }

    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        sender.send(message);
        Ok(())
    }
}

/// The server. `/heap` answers its process and its bytes, `/next` hands over, `/end` ends it.
#[test]
#[ignore = "the other test runs it"]
fn server() {
    assert!(env::var_os(SERVES).is_some(), "run by the other test");
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    tokio.unwrap().block_on(async {
        let (sender, handle) = tokio::sync::watch::channel(None::<Handle>);
        let runtime = Runtime::builder()
            .party::<Relay>("relay")
            .in_memory()
            .fallback(move |request| {
                let handle = handle.borrow().clone().unwrap();
                async move { answer(&handle, request.uri().path()).await }
            })
            .build()
            .unwrap();
        sender.send_replace(Some(runtime.handle()));
        let listener = bind(env::var(SERVES).unwrap().as_str()).await.unwrap();
        if env::var_os("PARTYKIT_HANDOVER").is_none() {
            println!("serves {}", listener.local_addr().unwrap());
        }
        runtime.serve_on(listener).await;
    });
    exit(0);
}

async fn answer(handle: &Handle, path: &str) -> Response {
    match path {
        "/heap" => Response::new(format!("{} {}", id(), asleep(handle).await).into()),
        "/next" => {
            let handle = handle.clone();
            tokio::spawn(async move { handle.hand_over().await.unwrap() });
            Response::new("soon".into())
        }
        _ => exit(0),
    }
}

/// The heap's bytes when the room sleeps with all connections.
async fn asleep(handle: &Handle) -> usize {
    at_rest(&HEAP, || {
        handle.room_stats("relay", "a").is_some_and(|stats| {
            stats.phase == RoomPhase::Asleep && stats.connections == CONNECTIONS
        })
    })
    .await
}

/// The first process of the server. It ends, and so does the next one, when this is dropped.
struct Site {
    first: Child,
    address: SocketAddr,
    /// The tests' own lines would have no reader otherwise, which ends both processes.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Site {
    fn start() -> Self {
        let mut first = Command::new(env::current_exe().unwrap())
            .args(["server", "--exact", "--ignored", "--nocapture"])
            .env(SERVES, "127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            Some(line.split_once("serves ")?.1.parse().unwrap())
        });
        Self { first, address: address.expect("it serves"), _output: lines }
    }

    fn connect(&self, number: usize) -> TcpStream {
        let stream = self.open();
        let request = format!(
            "GET /parties/relay/a?_pk=client-number-{number:0>7} HTTP/1.1\r\nhost: h\r\n\
             upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        upgraded(stream, &request)
    }

    fn open(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(NEVER)).unwrap();
        stream
    }

    fn get(&self, path: &str) -> String {
        let mut stream = self.open();
        let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        // The process that ends answers nothing.
        let _ = stream.read_to_string(&mut answer);
        answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned()
    }

    /// Which process serves, and what it takes. `None` if it ends meanwhile.
    fn heap(&self) -> Option<(u32, usize)> {
        let answer = self.get("/heap");
        let (process, bytes) = answer.split_once(' ')?;
        Some((process.parse().unwrap(), bytes.parse().unwrap()))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if TcpStream::connect(self.address).is_ok() {
            self.get("/end");
        }
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}

#[test]
fn a_connection_that_was_taken_over_takes_no_more_than_before() {
    let site = Site::start();
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|number| site.connect(number)).collect();
    let (process, before) = site.heap().expect("it serves");
    site.get("/next");
    let begun = Instant::now();
    let after = loop {
        if let Some((next, after)) = site.heap()
            && next != process
        {
            break after;
        }
        assert!(begun.elapsed() < NEVER, "no other process serves");
    };
    let more = (after as f64 - before as f64) / CONNECTIONS as f64;
    println!("the heap: {before} bytes, in the next process {after}: {more:.0} more a connection");
    assert!(more <= 16.0, "{more} bytes more a connection");
    // They are the same connections.
    for client in &mut clients[..3] {
        client.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).unwrap();
        let mut echo = [0; 4];
        client.read_exact(&mut echo).unwrap();
        assert_eq!(echo, [0x81, 2, b'h', b'i']);
    }
}
