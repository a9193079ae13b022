//! A server for hostile clients: rooms that are kept busy, and a health check.

use std::time::{Duration, Instant};

use partykit::{Connection, Message, Options, Response, Result, Room, Runtime, Server};
use tokio::net::TcpListener;

use super::talk;

/// How long a handler keeps its thread for a binary message.
const BURN: Duration = Duration::from_micros(50);

/// Says texts back.
#[derive(Default)]
struct Burner;

impl Server for Burner {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        match message.as_text() {
            Some(_) => sender.send(message),
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

/// Everything as it is by default on two threads, but for the number of places. Knows no questions.
pub(crate) fn run(places: usize) -> Result<()> {
    let tokio =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let listener = tokio.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let runtime = tokio.block_on(async {
        Runtime::builder()
            .party::<Burner>("main")
            .in_memory()
            .max_connections(places)
            .fallback(async |_| Response::new("well".into()))
            .build()
    })?;
    let address = listener.local_addr()?;
    tokio.spawn(async move { runtime.serve_on(listener).await });
    talk(address, |question| format!("unknown question {question}"))
}
