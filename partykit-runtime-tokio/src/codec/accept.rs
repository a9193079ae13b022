use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};

/// The length of a `Sec-WebSocket-Accept`: 20 bytes in base64.
pub(crate) const ACCEPT: usize = 28;

/// What RFC 6455 adds to the key.
const SALT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The `Sec-WebSocket-Accept` of a handshake, from the bytes of its `Sec-WebSocket-Key`.
pub(crate) fn accept_key(key: &[u8]) -> [u8; ACCEPT] {
    let hash = Sha1::new().chain_update(key).chain_update(SALT).finalize();
    let mut accept = [0; ACCEPT];
    // It fits.
    let _ = STANDARD.encode_slice(hash, &mut accept);
    accept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_rfc() {
        assert_eq!(&accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
