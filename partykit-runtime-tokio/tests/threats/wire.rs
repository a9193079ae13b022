//! Frames as no decent client sends them.

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::support::within;

/// The header of a frame of which nothing more comes, masked.
pub(crate) fn announce(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0xFF], &length.to_be_bytes()[..], &[0; 4]].concat()
}

/// A short frame, masked with zeros.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// The code of the Close that comes next, behind Pongs at most, and the end of the connection behind it.
pub(crate) async fn close_code(stream: &mut (impl AsyncRead + Unpin)) -> u16 {
    within(async {
        loop {
            let mut head = [0; 2];
            stream.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; head[1].into()];
            stream.read_exact(&mut payload).await.unwrap();
            match head[0] {
                0x8A => {}
                0x88 => {
                    let mut rest = Vec::new();
                    // A reset is an end, too, when the server still had something to read.
                    let _ = stream.read_to_end(&mut rest).await;
                    assert!(rest.is_empty(), "something comes after the Close");
                    return u16::from_be_bytes([payload[0], payload[1]]);
                }
                other => panic!("neither Pong nor Close: {other:#x}"),
            }
        }
    })
    .await
}
