//! Rooms that are written once and sleep from then on, in a store on disk, with questions for what only
//! the server can see.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use partykit::{
    Alarm, Body, Options, Request, RequestExt, Response, Result, Room, RoomAddress, RoomId,
    Runtime, Server, Timestamp,
    server::Handle,
    storage::{Backend, Batch, DiskBackend, Durability, WakeUp},
};
use tokio::net::TcpListener;

use super::talk;

/// What clients have written: bytes of keys and values, in all rooms.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// When an alarm rang first, in microseconds after [`BEGIN`]; 0 if none has.
static RUNG: AtomicU64 = AtomicU64::new(0);

/// Commits, or requests, at a time.
pub(crate) const AT_ONCE: usize = 256;

/// So far away that no alarm of it rings while it is measured.
const FAR: Duration = Duration::from_secs(1 << 20);

/// How long an alarm that is due may take to ring.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything as it is by default, but for where rooms store and how soon they sleep. The first room is
/// asked before the server says that it is there.
///
/// Questions: `write FROM UPTO` writes rooms, each of which sleeps before many others are awake, and
/// answers with the bytes that clients have written so far; `burst FROM UPTO` writes them as fast as it
/// goes, so that tens of thousands are awake at the same time;
/// `remind FROM UPTO` does so and sets their alarms, far away; `pend UPTO` sets this many wake-ups in the
/// store, without rooms; `due MILLISECONDS` has the first room's alarm ring then; `left`, what is in
/// memory of all rooms; `tasks` and `threads`, how many there are; `answered` and `rung`, after how many
/// microseconds the first room has answered, or its alarm has rung; `read`, how many bytes were read
/// until then; `stop` ends all in good order.
pub(crate) fn run(directory: &Path) -> Result<()> {
    let (begin, read_before) = (Instant::now(), read()?);
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = tokio.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let store = DiskBackend::open(directory, Durability::Durable)?;
    let runtime = tokio.block_on(async {
        let party = Runtime::builder().party_with("main", move |_: &RoomId| Sleeper { begin });
        party.backend(Arc::new(store.clone())).build()
    })?;
    let (address, handle) = (listener.local_addr()?, runtime.handle());
    tokio.spawn(async move { runtime.serve_on(listener).await });
    tokio.block_on(ask(&handle, 0, ""))?;
    let answered = begin.elapsed();

    talk(address, |question| {
        let words = question.split(' ').collect::<Vec<_>>();
        let answer = || -> Result<String> {
            Ok(match words[..] {
                ["write", from, upto] => {
                    let asked =
                        stream::iter(from.parse()?..upto.parse()?).map(async |room| -> Result {
                            ask(&handle, room, "write=").await?;
                            handle
                                .evict("main", &name(room))
                                .await
                                .map_err(|why| format!("{why:?}").into())
                        });
                    let all = asked.buffer_unordered(AT_ONCE).try_for_each(async |()| Ok(()));
                    tokio.block_on(all)?;
                    WRITTEN.load(Ordering::SeqCst).to_string()
                }
                ["burst", from, upto] => {
                    let all = ask_all(&handle, from.parse()?..upto.parse()?, "write=");
                    tokio.block_on(all)?;
                    WRITTEN.load(Ordering::SeqCst).to_string()
                }
                ["remind", from, upto] => {
                    let query = format!("write=&alarm={}", FAR.as_millis());
                    tokio.block_on(ask_all(&handle, from.parse()?..upto.parse()?, &query))?;
                    WRITTEN.load(Ordering::SeqCst).to_string()
                }
                ["pend", upto] => {
                    tokio.block_on(pend(&store, upto.parse()?))?;
                    upto.to_owned()
                }
                ["due", wait] => tokio.block_on(ask(&handle, 0, &format!("alarm={wait}")))?,
                ["left"] => {
                    let rooms: usize = handle.stats().parties.values().map(|all| all.rooms).sum();
                    format!("{rooms} rooms, {store:?}")
                }
                ["tasks"] => tokio.metrics().num_alive_tasks().to_string(),
                ["threads"] => fs::read_dir("/proc/self/task")?.count().to_string(),
                ["answered"] => answered.as_micros().to_string(),
                ["rung"] => rung(begin)?.to_string(),
                ["read"] => (read()? - read_before).to_string(),
                ["stop"] => {
                    tokio.block_on(async {
                        handle.shutdown().await;
                        store.close().await;
                    });
                    "stopped".to_owned()
                }
                _ => return Err(format!("unknown question {question}").into()),
            })
        };
        answer().unwrap_or_else(|error| format!("failed: {error}"))
    })
}

struct Sleeper {
    begin: Instant,
}

impl Server for Sleeper {
    fn options() -> Options {
        // A second instead of ten, or 100,000 rooms would be awake at the same time.
        Options::new().hibernate(true).hibernate_after(Duration::from_secs(1))
    }

    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        let storage = room.storage();
        if request.query("write").is_some() {
            for (key, value) in rows(room.id()) {
                WRITTEN.fetch_add((key.len() + value.len()) as u64, Ordering::SeqCst);
                storage.put_bytes(key, value)?;
            }
        }
        if let Some(wait) = request.query("alarm") {
            storage.set_alarm(room.now() + Duration::from_millis(wait.parse()?))?;
        }
        let title = storage.get_bytes("title").await?;
        Ok(Response::new(title.map_or(0, |title| title.len()).to_string().into()))
    }

    async fn on_alarm(&mut self, _: &Room, _: Alarm) -> Result {
        let after = self.begin.elapsed().as_micros() as u64;
        let _ = RUNG.compare_exchange(0, after, Ordering::SeqCst, Ordering::SeqCst);
        Ok(())
    }
}

/// What a room stores: three rows of 50 to 110 bytes, in every room others.
fn rows(room: &str) -> [(&'static str, String); 3] {
    let mut state = u64::from_str_radix(room, 16).unwrap_or_default();
    ["title", "members", "updated-at"].map(|key| {
        let mut value = String::new();
        let length = 45 + state as usize % 56;
        while value.len() < length {
            state = mix(state);
            value.push_str(&format!("{state:016x}"));
        }
        value.truncate(length);
        (key, value)
    })
}

/// A room's name: in no order, as names are that nobody chose.
fn name(number: u64) -> String {
    format!("{:012x}", mix(number) >> 16)
}

/// One step of SplitMix64.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

async fn ask(handle: &Handle, number: u64, query: &str) -> Result<String> {
    let name = name(number);
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = format!("/parties/main/{name}?{query}").parse()?;
    let response = handle.request("main", &name, request).await?;
    match response.status().is_success() {
        true => Ok("ok".to_owned()),
        false => Err(format!("room {name} answered {}", response.status()).into()),
    }
}

async fn ask_all(handle: &Handle, rooms: std::ops::Range<u64>, query: &str) -> Result<()> {
    let asked = stream::iter(rooms).map(|room| ask(handle, room, query));
    asked.buffer_unordered(AT_ONCE).try_for_each(async |_| Ok(())).await
}

/// Sets wake-ups, as alarms do beside their rows.
async fn pend(store: &DiskBackend, upto: u64) -> Result<()> {
    let now = Timestamp::from(SystemTime::now());
    let set = stream::iter(0..upto).map(async |number| -> Result {
        let room = RoomAddress::new("main", RoomId::new(name(number))?);
        let claim = store.claim(&room).await?;
        let at = now + FAR + Duration::from_millis(number);
        let batch = Batch { wake_up: Some(WakeUp::At(at)), ..Batch::default() };
        store.commit(&room, claim.epoch, batch).await?;
        store.release(&room, claim.epoch);
        Ok(())
    });
    set.buffer_unordered(4 * AT_ONCE).try_for_each(async |()| Ok(())).await
}

fn rung(begin: Instant) -> Result<u64> {
    loop {
        match RUNG.load(Ordering::SeqCst) {
            0 if begin.elapsed() > PATIENCE => return Err("no alarm has rung".into()),
            0 => std::thread::sleep(Duration::from_millis(1)),
            after => return Ok(after),
        }
    }
}

/// How many bytes the process has read, from files and everything else.
fn read() -> Result<u64> {
    let io = fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    Ok(line.ok_or("a kernel that counts no reads")?.parse()?)
}
