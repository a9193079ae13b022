use partykit_core::{Options, RoomId};
use partykit_runtime_tokio::Runtime;
use tokio::io::AsyncWriteExt;

use crate::{
    support::serve,
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
