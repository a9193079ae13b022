//! What everybody else notices of a disk that syncs slowly: `cargo run -p partykit-crash --bin
//! partykit-slow-syncs -- [MILLISECONDS] [SECONDS]`.
//!
//! A server whose every sync takes so much longer (200 ms) stores what 32 rooms are sent, so much that
//! the store writes files and merges them all the time. Meanwhile one client pings a quiet room, one asks
//! for what is not there, and one reads a row of a room that does not sleep.

use std::{
    env, fs,
    io::{self, Write as _},
    path::Path,
    process::{Child, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _};
use partykit::{Options, Request, Response, Result, Room, Runtime, Server, storage::StoreOptions};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_tungstenite::tungstenite::Message;

/// What the library beside this program reads: how much longer each sync takes, in milliseconds.
const SLOW: &str = "CRASH_SLOW_SYNC_MS";

/// How many rooms write, each one commit after another.
const WRITERS: usize = 32;

/// What each of their commits has.
const VALUE: usize = 64 << 10;

/// Between two looks: a client may send 100 pings a second.
const PAUSE: Duration = Duration::from_millis(20);

/// A room that stores what it is sent.
#[derive(Default)]
struct Shelf;

impl Server for Shelf {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        if request.method() == "POST" {
            let value = request.into_body().bytes().cloned().unwrap_or_default();
            let count: u64 = room.storage().get("count").await?.unwrap_or(0);
            room.storage().put("count", &(count + 1))?;
            room.storage().put_bytes(&format!("row {}", count % 64), value)?;
            return Ok(Response::default());
        }
        let row = room.storage().get_bytes("row 0").await?;
        Ok(Response::new(format!("{}", row.map_or(0, |row| row.len())).into()))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |at: usize, default| match arguments.get(at) {
        Some(number) => number.parse(),
        None => Ok(default),
    };
    let done = match (arguments.first().map(String::as_str), number(0, 200), number(1, 30)) {
        (Some("serve"), ..) => serve(arguments.get(1).map_or(".", String::as_str)).await,
        (_, Ok(slow), Ok(seconds)) => measure(slow, Duration::from_secs(seconds)).await,
        _ => Err("partykit-slow-syncs [MILLISECONDS] [SECONDS]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(directory: &str) -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut out = io::stdout();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    let small = StoreOptions::default().write_memory(16 << 20);
    let builder = Runtime::builder().party::<Shelf>("shelf").data(directory).store(small);
    builder.build()?.serve_on(listener).await;
    Ok(())
}

/// A server that is killed at the end.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn measure(slow: u64, time: Duration) -> Result {
    // A disk, where a temporary directory may be none.
    let directory = tempfile::tempdir_in(env::current_exe()?.with_file_name(""))?;
    let mut child = std::process::Command::new(env::current_exe()?)
        .arg("serve")
        .arg(directory.path())
        .env("LD_PRELOAD", partykit_crash::shim()?)
        .env(SLOW, slow.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or("no output")?;
    let _server = Killed(child);
    let mut address = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(out), &mut address)?;
    let address = Arc::<str>::from(address.trim());

    Client::to(&address).await?.ask("POST", "/parties/shelf/warm", &[7; 100]).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let commits = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (address, is_over, commits) = (address.clone(), is_over.clone(), commits.clone());
        writers.spawn(async move {
            let mut client = Client::to(&address).await?;
            let path = format!("/parties/shelf/writer-{writer}");
            while !is_over.load(Ordering::Relaxed) {
                client.ask("POST", &path, &vec![writer as u8; VALUE]).await?;
                commits.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, partykit::BoxError>(())
        });
    }
    let end = Instant::now() + time;
    let looks = tokio::try_join!(
        pings(&address, end),
        requests(&address, end, "/nothing", 404),
        requests(&address, end, "/parties/shelf/warm", 200),
    )?;
    is_over.store(true, Ordering::Relaxed);
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    println!(
        "each sync takes {slow} ms longer; {} commits in {time:?}",
        commits.load(Ordering::Relaxed)
    );
    println!("files of the tree made so far: {}", newest_file(directory.path())?);
    for (what, mut times) in [("a ping", looks.0), ("a 404", looks.1), ("a warm read", looks.2)] {
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        println!(
            "{what}: {} times, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
            times.len(),
            at(50),
            at(99),
            at(100)
        );
    }
    Ok(())
}

/// Files are numbered.
fn newest_file(directory: &Path) -> io::Result<u64> {
    let files = fs::read_dir(directory.join("tree/tables"))?;
    let numbers = files.filter_map(|file| file.ok()?.file_name().to_str()?.parse::<u64>().ok());
    Ok(numbers.max().map_or(0, |newest| newest + 1))
}

async fn pings(address: &str, end: Instant) -> Result<Vec<Duration>> {
    let url = format!("ws://{address}/parties/shelf/quiet");
    let (mut socket, _) =
        tokio_tungstenite::client_async(url, TcpStream::connect(address).await?).await?;
    let mut times = Vec::new();
    while Instant::now() < end {
        let begin = Instant::now();
        socket.send(Message::Ping("?".into())).await?;
        while !matches!(socket.next().await.ok_or("the socket was closed")??, Message::Pong(_)) {}
        times.push(begin.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times)
}

async fn requests(address: &str, end: Instant, path: &str, status: u16) -> Result<Vec<Duration>> {
    let mut client = Client::to(address).await?;
    let mut times = Vec::new();
    while Instant::now() < end {
        let begin = Instant::now();
        let found = client.ask("GET", path, &[]).await?;
        if found != status {
            return Err(format!("{path} was answered with {found}").into());
        }
        times.push(begin.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times)
}

/// One connection that asks one thing after another.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn to(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The status of the answer.
    async fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<u16> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all(&[head.as_bytes(), body].concat()).await?;
        let (mut status, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await? == 0 {
                return Err("the connection was closed".into());
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.is_empty() {
                break;
            }
            if status.is_none() {
                status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
            }
        }
        self.0.read_exact(&mut vec![0; length]).await?;
        status.ok_or_else(|| "an answer without a status".into())
    }
}
