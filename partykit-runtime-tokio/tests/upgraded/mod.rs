//! A WebSocket of a client that takes little from the allocator, because its test counts that of the server.

use std::io::{Read, Write};

/// Sends a handshake, and reads the answer, which has to be 101, and nothing behind it.
pub(crate) fn upgraded<S: Read + Write>(mut stream: S, request: &str) -> S {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    stream
}
