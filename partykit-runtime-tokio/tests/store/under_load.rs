//! A store that fails while rooms write, from end to end: what clients are told stays true, rooms that
//! store nothing do not notice, and all go on when it is well again.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt, future::join_all};
use partykit_core::{
    Backend, Connection, HandlerError, Message, Options, Result, Room, Server,
    testing::FaultyBackend,
};
use partykit_runtime_tokio::{
    Runtime,
    store::{DiskBackend, Durability},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite};

use super::{full_disk::SmallDisk, support::directory};

/// Rooms that write, and rooms that do not.
const WRITERS: usize = 12;
const SILENT: usize = 4;

/// How long anything may take before it counts as never: longer than a room is refused that could not
/// start.
const NEVER: Duration = Duration::from_secs(90);

/// How long a client waits for an answer before it asks again.
const PATIENCE: Duration = Duration::from_millis(500);

/// Writes what it is told, three rows of it, and says so; with `get` it says what is stored.
#[derive(Default)]
struct Ledger;

impl Server for Ledger {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        let storage = room.storage();
        match message.as_text() {
            Some("get") => {
                let rows = storage.get_many::<u64>(&["one", "other"]).await?;
                assert_eq!(rows[0], rows[1], "half of a handler is stored");
                sender.send(format!("stored {}", rows[0].unwrap_or(0)));
            }
            text => {
                let number: u64 = text.ok_or("a number")?.parse()?;
                storage.put("one", &number)?;
                storage
                    .put_bytes(&format!("ballast:{}", number % 8), vec![number as u8; 60_000])?;
                storage.put("other", &number)?;
                sender.send(format!("wrote {number}"));
            }
        }
        Ok(())
    }

    async fn on_error(&mut self, room: &Room, _: HandlerError) -> Result {
        room.broadcast("failed").send();
        Ok(())
    }
}

/// Stores nothing.
#[derive(Default)]
struct Echo;

impl Server for Echo {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        sender.send(message);
        Ok(())
    }
}

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The last number that was said to be written.
    told: u64,
    next: u64,
}

impl Client {
    async fn connect(addr: SocketAddr, path: &str) -> Self {
        let (socket, _) = connect_async(format!("ws://{addr}/parties/{path}")).await.unwrap();
        Self { socket, told: 0, next: 1 }
    }

    async fn say(&mut self, text: String) {
        self.socket.send(tungstenite::Message::text(text)).await.unwrap();
    }

    /// The next thing that is said, if it comes soon.
    async fn hear(&mut self) -> Option<String> {
        let heard = timeout(PATIENCE, self.socket.next()).await.ok()?;
        let text = heard.expect("sockets outlive a store").unwrap().into_text().unwrap();
        if let Some(number) = text.strip_prefix("wrote ") {
            self.told = self.told.max(number.parse().unwrap());
        }
        Some(text.as_str().to_owned())
    }

    /// Writes the next number; whether somebody said that it is written.
    async fn write(&mut self) -> bool {
        let number = self.next;
        self.next += 1;
        self.say(number.to_string()).await;
        loop {
            match self.hear().await.as_deref() {
                None | Some("failed") => return false,
                Some(text) if text == format!("wrote {number}") => return true,
                // Of a message that was answered after nobody waited for it any more.
                Some(_) => {}
            }
        }
    }

    /// What is stored, from a room that can say so.
    async fn stored(&mut self) -> u64 {
        loop {
            self.say("get".to_owned()).await;
            while let Some(text) = self.hear().await {
                if let Some(number) = text.strip_prefix("stored ") {
                    return number.parse().unwrap();
                }
            }
        }
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    timeout(NEVER, future).await.expect("it never happens")
}

/// Lets all rooms work, breaks the store, waits until every writer has noticed, and mends it.
async fn survives(backend: impl Backend, breaks: impl FnOnce(), mends: impl FnOnce()) {
    let runtime = Runtime::builder()
        .party::<Ledger>("ledger")
        .party::<Echo>("echo")
        .backend(Arc::new(backend))
        .shutdown_spread(Duration::ZERO)
        .build()
        .unwrap();
    let handle = runtime.handle();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { runtime.serve_on(listener).await });

    let (ends, echoes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let silent: Vec<_> = (0..SILENT)
        .map(|n| {
            let (ends, echoes) = (ends.clone(), echoes.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(addr, &format!("echo/{n}")).await;
                while !ends.load(Ordering::SeqCst) {
                    client.say("hello".to_owned()).await;
                    let heard = within(client.socket.next()).await.unwrap().unwrap();
                    assert_eq!(heard.into_text().unwrap().as_str(), "hello");
                    echoes.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();

    let connecting =
        (0..WRITERS).map(|n| async move { Client::connect(addr, &format!("ledger/{n}")).await });
    let mut writers = join_all(connecting).await;
    within(join_all(writers.iter_mut().map(|writer| async {
        for _ in 0..5 {
            assert!(writer.write().await, "nothing is wrong yet");
        }
    })))
    .await;

    breaks();
    within(join_all(writers.iter_mut().map(|writer| async { while writer.write().await {} })))
        .await;
    // Rooms that store nothing go on, while the others cannot.
    let before = echoes.load(Ordering::SeqCst);
    within(async {
        while echoes.load(Ordering::SeqCst) < before + 20 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    mends();

    within(join_all(writers.iter_mut().enumerate().map(|(n, writer)| async move {
        let stored = writer.stored().await;
        let told = writer.told;
        assert!(stored >= told, "room {n}: {told} was said to be written, {stored} is stored");
        assert!(stored < writer.next, "room {n}: {stored} was never said");
        while !writer.write().await {}
        assert_eq!(writer.stored().await, writer.told);
    })))
    .await;
    ends.store(true, Ordering::SeqCst);
    for client in silent {
        client.await.unwrap();
    }
    drop(writers);
    handle.shutdown().await;
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_survive_a_store_that_fails() {
    for seed in 0..3 {
        let directory = directory();
        let store = DiskBackend::open(directory.path().join("data"), Durability::Durable).unwrap();
        let faulty = FaultyBackend::new(store, seed);
        let (breaks, mends) = (faulty.clone(), faulty.clone());
        let breaks = || drop(breaks.fail_commits(0.4).fail_reads(0.2));
        survives(faulty, breaks, || drop(mends.fail_commits(0.0).fail_reads(0.0))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_survive_a_full_disk() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let store = DiskBackend::open(disk.path("data"), Durability::Durable).unwrap();
    survives(store.clone(), || disk.fill(500_000), || disk.free()).await;
    store.close().await;
}
