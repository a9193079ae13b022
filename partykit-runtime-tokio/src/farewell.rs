//! Opens a WebSocket only to close it with a reason: a page cannot see why a handshake was refused.

use std::time::Duration;

use partykit_core::Close;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{codec::encode_close, socket::Io};

/// How long a client has to hang up after the Close.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many bytes a client may send meanwhile.
const MOST: u64 = 64 << 10;

/// Sends the Close, then waits until the client hangs up. A slow client may not have read the Close yet, and
/// a connection that is dropped with unread bytes is reset.
pub(crate) async fn say(mut io: Box<dyn Io>, close: &Close) {
    let said = async {
        io.write_all(&encode_close(close)).await?;
        io.shutdown().await?;
        tokio::io::copy(&mut (&mut io).take(MOST), &mut tokio::io::sink()).await
    };
    // If this fails, the client is gone, and there is nothing else to do.
    let _ = tokio::time::timeout(PATIENCE, said).await;
}
