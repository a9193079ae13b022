//! What a process does that is told to end, seen from outside: each test runs a server in a process of its
//! own.
#![cfg(unix)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use partykit_core::{Connection, Message, Options, Request, Response, Result, Room, Server};
use partykit_runtime_tokio::Runtime;

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(30);

/// Set in the process that is the server; its value is the grace in milliseconds.
const SERVER: &str = "PARTYKIT_TEST_SERVER_GRACE";

/// More bytes than the kernel takes for a client that does not read.
const MUCH: usize = 32 << 20;

/// Does what it is told to.
#[derive(Default)]
struct Obedient;

impl Server for Obedient {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        match message.as_text() {
            Some("hang") => std::future::pending().await,
            // For ever, as an endless loop would.
            Some("block") => drop(std::sync::mpsc::channel::<()>().1.recv_timeout(10 * NEVER)),
            Some("much") => {
                for _ in 0..64 {
                    sender.send("z".repeat(16 << 10));
                }
            }
            _ => room.broadcast(message).send(),
        }
        Ok(())
    }

    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        if room.id() == "much" {
            return Ok(Response::new("z".repeat(MUCH).into()));
        }
        tokio::time::timeout(Duration::from_millis(300), std::future::pending::<()>())
            .await
            .unwrap_or_default();
        Ok(Response::new("done".into()))
    }
}

/// The server, when this binary is run for it.
#[test]
#[ignore = "the other tests run it"]
fn server() {
    let grace = std::env::var(SERVER).expect("run by another test").parse().unwrap();
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stdout).init();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    tokio.unwrap().block_on(async {
        let builder = Runtime::builder().party::<Obedient>("main").in_memory();
        let builder = builder.shutdown_grace(Duration::from_millis(grace));
        builder.shutdown_spread(Duration::ZERO).serve("127.0.0.1:0").await.unwrap();
    });
}

/// A server in a process of its own.
struct Site {
    process: Child,
    addr: SocketAddr,
    lines: mpsc::Receiver<String>,
    log: Vec<String>,
}

impl Site {
    fn start(grace: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server", "--ignored", "--nocapture"])
            .env(SERVER, grace)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (send, lines) = mpsc::channel();
        let stdout: ChildStdout = process.stdout.take().unwrap();
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| {
                let _ = send.send(line);
            });
        });
        let mut site = Self { process, addr: ([127, 0, 0, 1], 0).into(), lines, log: Vec::new() };
        let line = site.wait_for("listening on http://");
        site.addr = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
        site
    }

    /// The next line of the log that holds this.
    fn wait_for(&mut self, text: &str) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(NEVER) else {
                panic!("no {text:?} in {:#?}", self.log)
            };
            self.log.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    fn tell(&self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// The end of the process.
    fn ended(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                println!("ended after {:.1?}", begin.elapsed());
                self.log.extend(self.lines.iter());
                return status;
            }
            assert!(begin.elapsed() < NEVER, "it never ends: {:#?}", self.log);
            // The process may need this core.
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn connect(&self, room: &str) -> Client {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(NEVER)).unwrap();
        let request = format!(
            "GET /parties/main/{room} HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\n\
             connection: upgrade\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.addr
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Client(stream)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A WebSocket that does nothing by itself.
struct Client(TcpStream);

impl Client {
    fn say(&mut self, text: &str) {
        let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
        frame.extend(text.as_bytes());
        self.0.write_all(&frame).unwrap();
    }

    /// The next frame, which is short: its first byte and its payload.
    fn hear(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let mut payload = vec![0; head[1].into()];
        self.0.read_exact(&mut payload).unwrap();
        (head[0], payload)
    }

    /// The code of the Close that comes next, answered.
    fn closed(&mut self) -> u16 {
        let (opcode, payload) = self.hear();
        assert_eq!(opcode, 0x88, "no Close: {payload:?}");
        let _ = self.0.write_all(&[0x88, 0x82, 0, 0, 0, 0, payload[0], payload[1]]);
        u16::from_be_bytes([payload[0], payload[1]])
    }
}

#[test]
fn the_first_signal_lets_handlers_end() {
    let mut site = Site::start("20000");
    let mut client = TcpStream::connect(site.addr).unwrap();
    let request = format!("GET /parties/main/a HTTP/1.1\r\nhost: {}\r\n\r\n", site.addr);
    client.write_all(request.as_bytes()).unwrap();
    let mut idle = site.connect("idle");
    site.tell("-TERM");
    assert_eq!(idle.closed(), 1012);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("done"), "{answer}");
    assert!(site.ended().success());
}

#[test]
fn a_response_on_its_way_arrives_whole() {
    let mut site = Site::start("20000");
    let mut client = TcpStream::connect(site.addr).unwrap();
    let request = format!("GET /parties/main/much HTTP/1.1\r\nhost: {}\r\n\r\n", site.addr);
    client.write_all(request.as_bytes()).unwrap();
    // The answer has begun.
    client.read_exact(&mut [0]).unwrap();
    let mut idle = site.connect("idle");
    site.tell("-TERM");
    assert_eq!(idle.closed(), 1012);
    idle.0.shutdown(std::net::Shutdown::Write).unwrap();
    idle.0.read_to_end(&mut Vec::new()).unwrap();
    // No room and no socket is left: only this.
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(answer.len() > MUCH, "{} bytes", answer.len());
    assert!(site.ended().success());
}

#[test]
fn a_hanging_handler_is_cancelled_when_its_grace_is_over() {
    let mut site = Site::start("1000");
    let (mut stuck, mut idle) = (site.connect("stuck"), site.connect("idle"));
    stuck.say("hello");
    assert_eq!(stuck.hear(), (0x81, b"hello".to_vec()));
    stuck.say("hang");
    stuck.say("never read");
    site.tell("-TERM");
    assert_eq!(idle.closed(), 1012);
    assert_eq!(stuck.closed(), 1012);
    site.wait_for("on_message was cancelled after");
    assert!(!site.log.iter().any(|line| line.contains("a handler still runs")), "{:#?}", site.log);
    assert!(site.ended().success());
}

#[test]
fn clients_that_answer_nothing_hold_nobody_up() {
    let mut site = Site::start("1000");
    let mut deaf: Vec<Client> = (0..20).map(|n| site.connect(&format!("room{n}"))).collect();
    for client in &mut deaf {
        client.say("much");
    }
    site.tell("-INT");
    site.wait_for("clients that did not answer within");
    assert!(site.ended().success());
}

#[test]
fn threads_that_handlers_block_are_reported_and_keep_no_process_alive() {
    let mut site = Site::start("500");
    let (mut one, mut other) = (site.connect("one"), site.connect("other"));
    one.say("block");
    other.say("block");
    // All of Tokio's threads are blocked by now, or about to be.
    for _ in 0..2 {
        let line = site.wait_for("a handler blocks its thread");
        assert!(line.contains(" WARN ") && line.contains("party=\"main\""), "{line}");
        assert!(line.contains("handler=\"on_message\""), "{line}");
        assert!(line.contains("room=\"one\"") || line.contains("room=\"other\""), "{line}");
    }
    site.tell("-TERM");
    let line = site.wait_for("received SIGTERM: shutting down");
    assert!(line.contains(" INFO "), "{line}");
    let line = site.wait_for("the shutdown did not finish in time");
    assert!(line.contains("on_message of main/other"), "{line}");
    assert_eq!(site.ended().code(), Some(1));
}

#[test]
fn one_blocked_thread_does_not_keep_the_process_alive() {
    let mut site = Site::start("500");
    let (mut one, mut idle) = (site.connect("one"), site.connect("idle"));
    one.say("block");
    site.wait_for("a handler blocks its thread");
    site.tell("-TERM");
    assert_eq!((idle.closed(), one.closed()), (1012, 1012));
    site.wait_for("handlers still block threads after the shutdown");
    assert_eq!(site.ended().code(), Some(1));
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let mut site = Site::start("20000");
        let (mut one, mut other) = (site.connect("one"), site.connect("other"));
        one.say("block");
        other.say("block");
        site.wait_for("a handler blocks its thread");
        site.wait_for("a handler blocks its thread");
        site.tell("-TERM");
        site.wait_for("received SIGTERM: shutting down");
        site.tell(signal);
        site.wait_for("received a second signal");
        assert_eq!(site.ended().code(), Some(code));
    }
}
