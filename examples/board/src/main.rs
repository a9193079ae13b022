//! Serves the board, with its page: `cargo run -p board [ADDRESS]`.

mod page;

use board::Board;
use partykit::{Result, Runtime};

#[tokio::main]
async fn main() -> Result {
    tracing_subscriber::fmt().with_target(false).without_time().init();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1999".to_owned());
    Runtime::builder().party::<Board>("board").fallback(page::answer).serve(address).await
}
