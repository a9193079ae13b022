//! The server that is replaced, and its clients.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use partykit_core::{
    Close, Connection, Message, Options, Request, Response, Result, Room, Server, StartReason,
};
use partykit_runtime_tokio::Runtime;

/// How long anything may take before it counts as never.
pub(crate) const NEVER: Duration = Duration::from_secs(30);

/// The directory of the store, in the process that is the server.
const DATA: &str = "PARTYKIT_TEST_DATA";
/// The name of the Unix socket, beside that directory.
const UNIX: &str = "party.sock";
/// What else this server does.
const MODE: &str = "PARTYKIT_TEST_MODE";

/// Answers what it is told, and counts it in storage.
#[derive(Default)]
struct Counter {
    why: Option<StartReason>,
}

impl Server for Counter {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_start(&mut self, room: &Room) -> Result {
        self.why = Some(room.start_reason());
        Ok(())
    }

    async fn on_connect(&mut self, _: &Room, connection: &Connection, _: &Request) -> Result {
        connection.set_state(&connection.id())?;
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        match message.as_text() {
            Some("hang") => std::future::pending().await,
            Some("much") => {
                for n in 0..2000 {
                    sender.send(format!("{n:05} {}", "z".repeat(8 << 10)));
                }
            }
            Some("bye") => sender.close(4000, "bye")?,
            Some("remind") => {
                room.storage().set_alarm_in(Duration::from_secs(3600))?;
                sender.send("soon");
            }
            Some("who") => {
                let state: Option<String> = sender.state()?;
                let (id, count) = (sender.id(), room.count());
                sender.send(format!("{id} {state:?} of {count}, {:?}", self.why));
            }
            Some("stored") => {
                let count: u64 = room.storage().get("count").await?.unwrap_or(0);
                sender.send(count.to_string());
            }
            _ => {
                let count: u64 = room.storage().get("count").await?.unwrap_or(0);
                room.storage().put("count", &(count + 1))?;
                sender.send(message);
            }
        }
        Ok(())
    }

    async fn on_close(&mut self, room: &Room, connection: &Connection, close: Close) -> Result {
        room.storage()
            .put("closed", &format!("{} {}", connection.id(), u16::from(close.code())))?;
        Ok(())
    }

    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        let closed: Option<String> = room.storage().get("closed").await?;
        Ok(Response::new(format!("{} {}", std::process::id(), closed.unwrap_or_default()).into()))
    }
}

/// The server, when this binary is run for it.
#[test]
#[ignore = "the other tests run it"]
fn server() {
    let data = std::env::var_os(DATA).expect("run by another test");
    let mode = std::env::var(MODE).unwrap_or_default();
    let is_next = std::env::var_os("PARTYKIT_HANDOVER").is_some();
    let own = if is_next { "next " } else { "first " };
    let fate = mode.strip_prefix(own).and_then(Fate::of);
    let level = if fate.is_some() { tracing::Level::DEBUG } else { tracing::Level::INFO };
    let log = tracing_subscriber::fmt().with_ansi(false).with_max_level(level);
    log.with_writer(move || Log(fate.clone())).init();
    if is_next {
        match mode.as_str() {
            "dies" => std::process::exit(3),
            "hangs" => halt(),
            "hello of another format" => super::failures::speak_another_format(),
            _ => {}
        }
    }
    if mode == "few descriptors" {
        let limit = rustix::process::Rlimit { current: Some(300), maximum: Some(300) };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    }
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    tokio.unwrap().block_on(async {
        let name = if is_next && mode == "another party" { "other" } else { "main" };
        let mut builder = Runtime::builder().party::<Counter>(name);
        builder = match &*mode {
            "another store" if is_next => builder.in_memory(),
            _ => builder.data(&data),
        };
        if mode == "parks" && is_next {
            builder = builder.park_alarm("main", "reminded");
        }
        let grace = if mode == "short" { 300 } else { 20_000 };
        builder = builder.shutdown_grace(Duration::from_millis(grace));
        let runtime = builder.shutdown_spread(Duration::ZERO).build().unwrap();
        if is_next && mode == "asks early" {
            let (handle, request) = (runtime.handle(), Request::default());
            let listed = handle.rooms("main", None, 9).await.map(|rooms| rooms.len());
            let asked = handle.request("main", "a", request).await.map(|it| it.status());
            println!("partykit: early: {listed:?}, {asked:?}");
        }
        if is_next && mode == "panics" {
            panic!("this version does not work");
        }
        match mode.as_str() {
            #[cfg(feature = "tls")]
            "tls" => super::tls::serve(runtime, data.as_ref()).await,
            "unix" | "moves" if is_next || mode == "unix" => {
                runtime.serve_unix(PathBuf::from(&data).with_file_name(UNIX)).await.unwrap();
            }
            "activated" => runtime.serve("localhost:0").await.unwrap(),
            _ => runtime.serve("127.0.0.1:0").await.unwrap(),
        }
    });
}

/// What becomes of a process when its log says something.
#[derive(Clone)]
enum Fate {
    DiesAt(String),
    StallsAt(String),
}

impl Fate {
    fn of(text: &str) -> Option<Self> {
        let dies = text.strip_prefix("dies at ").map(|at| Self::DiesAt(at.to_owned()));
        dies.or_else(|| Some(Self::StallsAt(text.strip_prefix("stalls at ")?.to_owned())))
    }
}

/// Writes the log, and fulfils a fate.
struct Log(Option<Fate>);

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        std::io::stdout().write_all(line)?;
        std::io::stdout().flush()?;
        let says = |text: &str| String::from_utf8_lossy(line).contains(text);
        match &self.0 {
            Some(Fate::DiesAt(text)) if says(text) => {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
                halt()
            }
            Some(Fate::StallsAt(text)) if says(text) => halt(),
            _ => Ok(line.len()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Does nothing until the process that has started this one is gone.
fn halt() -> ! {
    let parent = rustix::process::getppid();
    while rustix::process::getppid() == parent {
        thread::park_timeout(Duration::from_millis(50));
    }
    std::process::exit(0)
}

/// A server in processes of its own: one after the other.
pub(crate) struct Site {
    first: Child,
    /// Those that the test has started to take over.
    others: Vec<Child>,
    mode: String,
    /// The process that serves now.
    pub(crate) process: u32,
    pub(crate) addr: SocketAddr,
    send: mpsc::Sender<String>,
    lines: mpsc::Receiver<String>,
    pub(crate) log: Vec<String>,
    data: tempfile::TempDir,
}

impl Site {
    pub(crate) fn start(mode: &str) -> Self {
        Self::start_as(mode, |command| command)
    }

    /// The same with more than the usual in the command of the first process.
    pub(crate) fn start_as(mode: &str, prepare: impl FnOnce(Command) -> Command) -> Self {
        let data = tempfile::tempdir().unwrap();
        let (send, lines) = mpsc::channel();
        let first = run(prepare(command(&data, mode)), &send);
        let (process, addr) = (first.id(), ([127, 0, 0, 1], 0).into());
        let (others, log, mode) = (Vec::new(), Vec::new(), mode.to_owned());
        let mut site = Self { first, others, mode, process, addr, send, lines, log, data };
        let line = site.wait_for("listening on");
        if let Some((_, addr)) = line.rsplit_once("://") {
            site.addr = addr.trim().parse().unwrap();
        }
        site
    }

    /// The next line of the log that has this.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
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

    /// The log has this, or will have it.
    pub(crate) fn has_said(&mut self, text: &str) {
        if !self.log.iter().any(|line| line.contains(text)) {
            self.wait_for(text);
        }
    }

    pub(crate) fn tell(&self, signal: &str) {
        let process = self.process.to_string();
        assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
    }

    /// Has the next process take over.
    pub(crate) fn replace(&mut self) {
        self.tell("-USR2");
        let line = self.wait_for("a hand-over to the next process begins");
        self.is_replaced_by(process_of(&line));
    }

    /// Starts a process that takes over by itself.
    pub(crate) fn replace_by_hand(&mut self) {
        let mut command = command(&self.data, &self.mode);
        command.env("PARTYKIT_HANDOVER", self.rendezvous());
        let next = run(command, &self.send);
        let process = next.id();
        self.others.push(next);
        let line = self.wait_for("a hand-over to the next process begins");
        assert_eq!(process_of(&line), process);
        self.is_replaced_by(process);
    }

    fn is_replaced_by(&mut self, process: u32) {
        // The two processes say it at the same time.
        let mut ends = vec![
            "took over from the process before",
            "handed everything over to the next process",
            "listening on",
        ];
        while !ends.is_empty() {
            let line = self.wait_for("partykit");
            ends.retain(|end| !line.contains(end));
        }
        assert_ne!(process, self.process);
        self.process = process;
    }

    /// Where the store is.
    #[cfg(feature = "tls")]
    pub(crate) fn store(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// Where a process that is to take over by itself connects to.
    pub(crate) fn rendezvous(&self) -> PathBuf {
        self.data.path().join("data/handover.sock")
    }

    /// The answer of a room to a plain request.
    pub(crate) fn ask(&self, room: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(NEVER)).unwrap();
        let request = format!(
            "GET /parties/main/{room} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.addr
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.rsplit("\r\n\r\n").next().unwrap().to_owned()
    }

    pub(crate) fn connect(&self, room: &str, id: &str) -> Client {
        self.shake(TcpStream::connect(self.addr).unwrap(), room, id)
    }

    /// The same over a Unix socket, which reads and writes as TCP does.
    pub(crate) fn connect_by_path(&self, room: &str, id: &str) -> Client {
        let stream = UnixStream::connect(self.data.path().join(UNIX)).unwrap();
        self.shake(TcpStream::from(OwnedFd::from(stream)), room, id)
    }

    fn shake(&self, mut stream: TcpStream, room: &str, id: &str) -> Client {
        stream.set_read_timeout(Some(NEVER)).unwrap();
        let request = handshake(self.addr, room, id);
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

    /// Waits until the first process has ended, and returns its exit code.
    pub(crate) fn first_ended(&mut self) -> Option<i32> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.first.try_wait().unwrap() {
                return status.code();
            }
            assert!(begin.elapsed() < NEVER, "it never ends: {:#?}", self.log);
            // The process may need this core.
            thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.process.to_string()]).status();
        for process in self.others.iter_mut().chain([&mut self.first]) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// What a client says first.
pub(crate) fn handshake(addr: SocketAddr, room: &str, id: &str) -> String {
    format!(
        "GET /parties/main/{room}?_pk={id} HTTP/1.1\r\nhost: {addr}\r\nupgrade: websocket\r\n\
         connection: upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// What starts a process of the server.
fn command(data: &tempfile::TempDir, mode: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "house::server", "--ignored", "--nocapture"])
        .env(DATA, data.path().join("data"))
        .env(MODE, mode)
        .stdin(Stdio::null());
    command
}

/// Starts it, and sends its log.
fn run(mut command: Command, send: &mpsc::Sender<String>) -> Child {
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let (stdout, send) = (process.stdout.take().unwrap(), send.clone());
    thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| {
            let _ = send.send(line);
        });
    });
    process
}

/// The process that a line of the log names.
pub(crate) fn process_of(line: &str) -> u32 {
    line.rsplit("process=").next().unwrap().trim().parse().unwrap()
}

/// A WebSocket that does nothing by itself.
pub(crate) struct Client(pub(crate) TcpStream);

/// A text as a client sends it.
pub(crate) fn frame(text: &str) -> Vec<u8> {
    fragment(0x81, text.as_bytes())
}

/// A masked frame with this first byte.
pub(crate) fn fragment(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [7, 0, 200, 13];
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

impl Client {
    pub(crate) fn say(&mut self, text: &str) {
        self.0.write_all(&frame(text)).unwrap();
    }

    /// The next frame: its first byte and its payload.
    pub(crate) fn hear(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.0.read_exact(&mut length).unwrap();
                usize::from(u16::from_be_bytes(length))
            }
            length => length.into(),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).unwrap();
        (head[0], payload)
    }

    /// The text that comes next.
    pub(crate) fn text(&mut self) -> String {
        let (first, payload) = self.hear();
        assert_eq!(first, 0x81, "no text: {payload:?}");
        String::from_utf8(payload).unwrap()
    }
}

/// Says numbers, some of them before the answers to earlier ones have come, and hears each once, in order.
pub(crate) fn chat(mut client: Client, until: &mpsc::Receiver<()>) -> u64 {
    let (mut next, mut waiting) = (0_u64, VecDeque::new());
    loop {
        let is_over = !matches!(until.try_recv(), Err(mpsc::TryRecvError::Empty));
        while !is_over && waiting.len() < 8 {
            client.say(&next.to_string());
            waiting.push_back(next);
            next += 1;
        }
        match waiting.pop_front() {
            Some(expected) => assert_eq!(client.text(), expected.to_string()),
            None => return next,
        }
    }
}
