//! Serves the relay, with a page that shows its rooms: `cargo run -p relay [ADDRESS]`.

mod page;
mod panel;

use partykit::{Result, Runtime};
use relay::Relay;

#[tokio::main]
async fn main() -> Result {
    panel::init_log();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1999".to_owned());
    Runtime::builder()
        .party::<Relay>("main")
        .in_memory()
        .fallback(panel::answer)
        .serve(address)
        .await
}
