//! Serves the parties of this crate on Tokio, for tests that run elsewhere.
//!
//! `probe [ADDRESS]`, or `PROBE_ADDR=ADDRESS probe`; Default: `127.0.0.1:0`. The first line that it
//! prints is `listening on http://ADDRESS`.

use std::{env, io::Write as _};

use partykit_conformance::{Server, serve};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = env::args().nth(1).or_else(|| env::var("PROBE_ADDR").ok());
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0")).await?;
    let server = serve(Server::parties(), listener)?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", server.url())?;
    out.flush()?;
    server.until_shut_down().await;
    Ok(())
}
