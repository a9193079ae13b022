use std::sync::Arc;

use futures_util::future::join_all;
use partykit_core::{
    Connection, Message, Options, Request, Response, Result, Room, RoomId, Server,
};
use partykit_runtime_tokio::Runtime;
use tokio::{io::AsyncWriteExt, sync::Semaphore};

use crate::{
    support::{eventually, serve},
    wire::{close_code, frame},
    witness::{Echo, Witness},
};

#[tokio::test]
async fn threat_17_control_frame_flood() {
    let site = serve(Runtime::builder().party::<Echo>("echo")).await;
    let mut witness = Witness::of(&site).await;
    for opcode in [0x89, 0x8A] {
        let attack = async {
            let mut stream = site.connect("/parties/echo/a").await.into_raw();
            // The server hangs up before it has read all of it.
            let _ = stream.write_all(&frame(opcode, b"").repeat(100_000)).await;
            stream
        };
        let mut stream = witness.during(attack).await;
        // A client that still writes when the server has hung up may lose the Close.
        drop(std::mem::replace(&mut stream, site.connect("/parties/echo/a").await.into_raw()));
        stream.write_all(&frame(opcode, b"").repeat(201)).await.unwrap();
        assert_eq!(close_code(&mut stream).await, 1008);
    }
    witness.is_alone().await;
}

/// What a decent client says of itself, and hears.
#[tokio::test]
async fn threat_17_pings_at_a_decent_rate_are_answered() {
    let site = serve(Runtime::builder().party::<Echo>("echo")).await;
    let mut stream = site.connect("/parties/echo/a").await.into_raw();
    let pings = [frame(0x89, b"").repeat(50), frame(0x88, b"\x03\xE8")].concat();
    stream.write_all(&pings).await.unwrap();
    assert_eq!(close_code(&mut stream).await, 1000);
}

#[tokio::test]
async fn threat_17_message_flood() {
    let options = Options::new().hibernate(true).max_message_rate(1, 50);
    let make = |_: &RoomId| Echo;
    let site = serve(Runtime::builder().party_with_options("echo", options, make)).await;
    let mut witness = Witness::of(&site).await;
    let attack = async {
        let mut stream = site.connect("/parties/echo/a").await.into_raw();
        stream.write_all(&frame(0x82, b"x").repeat(70)).await.unwrap();
        close_code(&mut stream).await
    };
    assert_eq!(witness.during(attack).await, 1008);
    witness.is_alone().await;
}

/// Handles nothing before it may.
struct Slow(Arc<Semaphore>);

impl Server for Slow {
    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        self.0.acquire().await?.forget();
        if message.as_text() == Some("?") {
            sender.send("!");
        }
        Ok(())
    }

    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        Ok(Response::new("here".into()))
    }
}

/// One who says more than a room can follow keeps nobody out of it: not those who come, nor requests, nor
/// what others in it say.
#[tokio::test]
async fn threat_17_a_flooder_keeps_nobody_out() {
    let handled = Arc::new(Semaphore::new(0));
    let may = handled.clone();
    let builder = Runtime::builder()
        .party::<Echo>("echo")
        .party_with("slow", move |_: &RoomId| Slow(may.clone()));
    let site = serve(builder).await;
    let mut witness = Witness::of(&site).await;
    let mut member = site.connect("/parties/slow/a").await;
    let mut flooder = site.connect("/parties/slow/a").await.into_raw();
    let flood = tokio::spawn(async move {
        // Ends when the server reads no more, and is dropped with the test.
        flooder.write_all(&frame(0x82, b"x").repeat(2_000_000)).await
    });
    let waiting = || site.handle.room_stats("slow", "a").unwrap().mailbox;
    eventually(|| waiting() >= 128).await;
    let newcomers = async {
        let connects = join_all((0..20).map(|_| site.connect("/parties/slow/a")));
        let requests = join_all((0..20).map(|_| site.get("/parties/slow/a")));
        member.send("?").await;
        let ((connected, answers), answer) =
            tokio::join!(async { tokio::join!(connects, requests) }, member.text());
        assert_eq!(answer, "!");
        assert!(answers.iter().all(|answer| answer.status() == 200));
        connected
    };
    let all_wait = async {
        eventually(|| waiting() >= 128 + 41).await;
        assert_eq!(waiting(), 128 + 41, "the flooder has an eighth of the room's mailbox");
        handled.add_permits(1_000_000);
    };
    let (connected, ()) = witness.during(async { tokio::join!(newcomers, all_wait) }).await;
    assert_eq!(connected.len(), 20);
    flood.abort();
    witness.is_alone().await;
}

#[tokio::test]
async fn threat_17_message_flood_from_one_address() {
    // The witness says what it says from the same address, within the burst.
    let builder = Runtime::builder().party::<Echo>("echo").max_message_rate_per_address(1, 60);
    let site = serve(builder).await;
    let mut witness = Witness::of(&site).await;
    let attack = async {
        let mut streams = Vec::new();
        for _ in 0..8 {
            let mut stream = site.connect("/parties/echo/b").await.into_raw();
            stream.write_all(&frame(0x82, b"x").repeat(5)).await.unwrap();
            streams.push(stream);
        }
    };
    witness.during(attack).await;
    let mut stream = site.connect("/parties/echo/b").await.into_raw();
    stream.write_all(&frame(0x82, b"x").repeat(70)).await.unwrap();
    assert_eq!(close_code(&mut stream).await, 1008);
}
