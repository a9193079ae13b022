//! A server for hostile, slow and many clients: rooms that are kept busy, that say much, and a health
//! check.

use std::time::{Duration, Instant};

use partykit::{Connection, Message, Options, Response, Result, Room, Runtime, Server};

use super::talk;
use crate::heap::Peak;

/// How long a handler keeps its thread for a binary message.
const BURN: Duration = Duration::from_micros(50);

/// Another `event_interval` of Tokio than its default, 61.
const EVENT_INTERVAL: &str = "PARTYKIT_BENCH_EVENT_INTERVAL";

/// Says texts back; to `COUNT BYTES` it says as many messages of this size, each with its number.
#[derive(Default)]
struct Burner;

impl Server for Burner {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        match message.as_text() {
            Some(text) => match text.split_once(' ') {
                None => sender.send(message),
                Some((count, bytes)) => {
                    let bytes: usize = bytes.parse()?;
                    for n in 0..count.parse::<usize>()? {
                        sender.send(numbered(n, bytes));
                    }
                }
            },
            None => {
                let begun = Instant::now();
                while begun.elapsed() < BURN {
                    std::hint::spin_loop();
                }
            }
        }
        Ok(())
    }
}

/// A message of this many bytes that begins with its number.
pub(crate) fn numbered(number: usize, bytes: usize) -> String {
    let mut message = format!("{number} ");
    message.extend(std::iter::repeat_n('.', bytes - message.len()));
    message
}

/// Everything as it is by default on two threads, but for the number of places.
///
/// Questions: `broadcast COUNT BYTES` says as much to the room `hall`; `given up`, how many clients were
/// because they did not read; `waiting`, how many bytes of memory are counted as
/// waiting for clients; `heap`, the [`Heap`](crate::heap::Heap) at its highest since this was asked before.
pub(crate) fn run(places: usize, port: u16) -> Result<()> {
    let mut tokio = tokio::runtime::Builder::new_multi_thread();
    if let Ok(interval) = std::env::var(EVENT_INTERVAL) {
        tokio.event_interval(interval.parse()?);
    }
    let tokio = tokio.worker_threads(2).enable_all().build()?;
    let listener = tokio.block_on(partykit::server::bind(("127.0.0.1", port)))?;
    let runtime = tokio.block_on(async {
        Runtime::builder()
            .party::<Burner>("main")
            .in_memory()
            .max_connections(places)
            .fallback(async |_| Response::new("well".into()))
            .build()
    })?;
    let (address, handle) = (listener.local_addr()?, runtime.handle());
    tokio.spawn(async move { runtime.serve_on(listener).await });
    let heap = Peak::watch();
    talk(address, |question| match question.split(' ').collect::<Vec<_>>()[..] {
        ["broadcast", count, bytes] => match (count.parse(), bytes.parse()) {
            (Ok(count), Ok(bytes)) => {
                let message = "x".repeat(bytes);
                let said = (0..count).map(|_: usize| handle.broadcast("main", "hall", &*message));
                said.filter(|said| said.is_ok()).count().to_string()
            }
            _ => format!("no numbers: {question}"),
        },
        ["given", "up"] => handle.stats().parties["main"].slow_clients.to_string(),
        ["waiting"] => handle.stats().parties["main"].outbound_bytes.to_string(),
        ["heap"] => heap.take(),
        _ => format!("unknown question {question}"),
    })
}
