use partykit_runtime_tokio::Runtime;
use tokio::io::AsyncWriteExt;

use crate::{
    support::{Site, header, serve},
    wire::{announce, close_code, frame},
    witness::{Echo, Witness},
};

async fn site() -> Site {
    serve(Runtime::builder().party::<Echo>("echo")).await
}

/// Sends these bytes to the witness's room and returns the code it is closed with.
async fn sent(site: &Site, bytes: &[u8]) -> u16 {
    let mut stream = site.connect("/parties/echo/a").await.into_raw();
    stream.write_all(bytes).await.unwrap();
    close_code(&mut stream).await
}

#[tokio::test]
async fn threat_02_a_frame_that_is_too_long_is_refused_by_its_header() {
    let site = site().await;
    let mut witness = Witness::of(&site).await;
    for length in [(1 << 20) + 1, 64 << 20, (1 << 63) - 1, u64::MAX] {
        let code = witness.during(sent(&site, &announce(0x82, length))).await;
        assert_eq!(code, 1009, "{length}");
    }
    witness.is_alone().await;
}

#[tokio::test]
async fn threat_03_fragment_bomb() {
    let site = site().await;
    let mut witness = Witness::of(&site).await;
    let bomb = [frame(0x01, b""), frame(0x00, b"").repeat(16_384)].concat();
    assert_eq!(witness.during(sent(&site, &bomb)).await, 1008);
    let halves = [frame(0x01, b"half"), announce(0x00, (1 << 20) - 3)].concat();
    assert_eq!(witness.during(sent(&site, &halves)).await, 1009, "fragments count together");
    witness.is_alone().await;
}

#[tokio::test]
async fn threat_04_nothing_is_compressed() {
    let site = site().await;
    let mut witness = Witness::of(&site).await;
    let offer = [("sec-websocket-extensions", "permessage-deflate; client_max_window_bits")];
    let attack = async {
        let (client, answer) = site.try_connect("/parties/echo/a", &offer).await.unwrap();
        assert_eq!(header(&answer, "sec-websocket-extensions"), None);
        let mut stream = client.into_raw();
        stream.write_all(&frame(0xC1, b"\xAA\x00")).await.unwrap();
        close_code(&mut stream).await
    };
    assert_eq!(witness.during(attack).await, 1002);
    witness.is_alone().await;
}
