//! A WebSocket that is opened to be told why it may not be.

use std::time::Duration;

use partykit_core::Close;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{codec::encode_close, socket::Io};

/// How long a client has to answer the Close, or to hang up.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much a client may send meanwhile.
const MOST: u64 = 64 << 10;

/// Says why, then waits until the client hangs up: one that reads slowly still has the Close to read, and
/// a connection that is dropped with something unread is reset.
pub(crate) async fn say(mut io: Box<dyn Io>, close: &Close) {
    let said = async {
        io.write_all(&encode_close(close)).await?;
        io.shutdown().await?;
        tokio::io::copy(&mut (&mut io).take(MOST), &mut tokio::io::sink()).await
    };
    // Gone or not: there is nothing else to tell.
    let _ = tokio::time::timeout(PATIENCE, said).await;
}
