//! What is said to clients, by handlers and from outside of them, takes no more memory in its room than its
//! limit says, counted at the allocator. In a binary of its own, and one after another: it is the whole
//! process's memory that is counted.

mod in_process;

use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use partykit_core::{
    CallError, Connection, HandlerError, Message, Options, Refusal, Request, Result, Room, Server,
};
use partykit_runtime_tokio::Runtime;
use peak_alloc::PeakAlloc;
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message as Frame, protocol::frame::coding::CloseCode},
};

use in_process::Within;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What may wait to leave a room.
const HELD: usize = 4 << 20;

/// As many messages as nobody has memory for.
const MANY: usize = 200_000;

/// Says `MANY` times what it hears, to its sender or to a tag of everybody.
#[derive(Clone, Default)]
struct Talker {
    /// The last who came in.
    guest: Arc<Mutex<Option<Connection>>>,
    failed: Arc<Mutex<Option<String>>>,
}

impl Server for Talker {
    fn options() -> Options {
        Options::new().max_held(HELD)
    }

    fn connection_tags(&mut self, _: &Room, _: &str, _: &Request) -> Result<Vec<String>> {
        Ok(vec!["guest".to_owned()])
    }

    async fn on_connect(&mut self, _: &Room, guest: &Connection, _: &Request) -> Result {
        *self.guest.lock().unwrap() = Some(guest.clone());
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        for _ in 0..MANY {
            match message.as_text() {
                Some(_) => sender.send(message.clone()),
                None => room.broadcast(message.clone()).tag("guest").send(),
            }
        }
        Ok(())
    }

    async fn on_error(&mut self, _: &Room, error: HandlerError) -> Result {
        *self.failed.lock().unwrap() = Some(error.to_string());
        Ok(())
    }
}

struct Site {
    talker: Talker,
    handle: partykit_runtime_tokio::Handle,
    knock: mpsc::Sender<DuplexStream>,
}

impl Site {
    fn open() -> Self {
        let talker = Talker::default();
        let made = talker.clone();
        let builder = Runtime::builder().party_with("main", move |_: &_| made.clone());
        let runtime = builder.in_memory().build().unwrap();
        let (handle, (knock, door)) = (runtime.handle(), mpsc::channel(1));
        tokio::spawn(async move { runtime.serve_on(Within(door)).await });
        Self { talker, handle, knock }
    }

    async fn connect(&self) -> WebSocketStream<DuplexStream> {
        let (ours, theirs) = duplex(64 << 10);
        self.knock.send(theirs).await.unwrap();
        client_async("ws://localhost/parties/main/room", ours).await.unwrap().0
    }
}

/// By how much the heap grows at its highest.
async fn growth(work: impl Future<Output = ()>) -> usize {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    work.await;
    HEAP.peak_usage().saturating_sub(before)
}

fn assert_within(grown: usize, limit: usize, what: &str) {
    println!("{what}: {} KiB of {}", grown / 1024, limit / 1024);
    assert!(grown <= limit / 2 * 3, "{what}: {grown} of {limit}");
}

#[tokio::test]
async fn what_is_said_waits_within_its_limit() {
    for message in [Frame::text("x"), Frame::text("x".repeat(100)), Frame::binary(vec![1])] {
        a_handler_says_too_much(message).await;
    }
    for size in [1, 100, 10_000] {
        threat_06_an_application_says_more_than_a_room_can(size).await;
    }
    threat_06_an_application_says_too_much_to_one().await;
}

async fn a_handler_says_too_much(message: Frame) {
    let site = Site::open();
    let mut client = site.connect().await;
    let what = format!("a handler, {} bytes, {}", message.len(), message.is_text());
    let grown = growth(async {
        client.send(message).await.unwrap();
        while site.talker.failed.lock().unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    });
    assert_within(grown.await, HELD, &what);
    let failed = site.talker.failed.lock().unwrap().take().unwrap();
    assert!(failed.contains("Options::max_held"), "{failed}");
}

/// Nothing that is refused is sent, and all else is.
async fn threat_06_an_application_says_more_than_a_room_can(size: usize) {
    let site = Site::open();
    let mut client = site.connect().await;
    let mut sent = 0;
    let grown = growth(async {
        let message = "x".repeat(size);
        for _ in 0..MANY {
            match site.handle.broadcast("main", "room", message.clone()) {
                Ok(()) => sent += 1,
                Err(CallError::Refused(_, Refusal::Overloaded)) => {}
                Err(other) => panic!("{other}"),
            }
        }
    });
    assert_within(grown.await, HELD / 4, &format!("broadcasts, {size} bytes"));
    assert!((50..MANY).contains(&sent), "{sent}");
    for _ in 0..sent {
        assert_eq!(client.next().await.unwrap().unwrap().len(), size);
    }
    site.handle.broadcast("main", "room", "still here").unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Frame::text("still here"));
}

async fn threat_06_an_application_says_too_much_to_one() {
    let site = Site::open();
    let (mut client, mut other) = (site.connect().await, site.connect().await);
    let one = site.talker.guest.lock().unwrap().clone().unwrap();
    let grown = growth(async {
        for _ in 0..MANY {
            one.send("x");
        }
    });
    assert_within(grown.await, 2 * HELD, "to one");
    let close = loop {
        match other.next().await.unwrap().unwrap() {
            Frame::Close(close) => break close.unwrap(),
            message => assert_eq!(message, Frame::text("x")),
        }
    };
    assert_eq!(close.code, CloseCode::Again);
    site.handle.broadcast("main", "room", "still here").unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Frame::text("still here"));
}
