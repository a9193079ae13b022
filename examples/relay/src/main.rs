//! Serves the relay, with a page that shows its rooms: `cargo run -p relay [ADDRESS]`.

mod panel;

use partykit::{Result, Runtime};
use relay::Relay;

#[tokio::main]
async fn main() -> Result {
    tracing_subscriber::fmt().with_max_level(panel::log_level()).init();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1999".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("The relay's page: http://{}/", listener.local_addr()?);
    Runtime::builder().party::<Relay>("main").fallback(panel::answer).serve_on(listener).await;
    Ok(())
}
