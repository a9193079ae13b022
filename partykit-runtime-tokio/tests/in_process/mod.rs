//! Connections within this process, which need no time for anything.

use std::{io, net::SocketAddr};

use partykit_runtime_tokio::Listener;
use tokio::{io::DuplexStream, sync::mpsc};

/// Accepts what is sent to it.
pub(crate) struct Within(pub(crate) mpsc::Receiver<DuplexStream>);

impl Listener for Within {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, Option<SocketAddr>)> {
        match self.0.recv().await {
            Some(stream) => Ok((stream, None)),
            None => std::future::pending().await,
        }
    }
}
