//! Serves the echo: `cargo run -p echo [ADDRESS]`.

use echo::Echo;
use partykit::{Result, Runtime};

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1999".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("Listening on ws://{}/parties/echo/room", listener.local_addr()?);
    Runtime::builder().party::<Echo>("echo").in_memory().serve_on(listener).await?;
    Ok(())
}
