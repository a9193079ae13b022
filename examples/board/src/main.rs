//! Serves the board, with its page: `cargo run -p board [ADDRESS]`. It stores in the directory of the
//! variable `PARTYKIT_DATA`. Default: `./.partykit`.

mod page;

use board::Board;
use partykit::{Result, Runtime};

#[tokio::main]
async fn main() -> Result {
    tracing_subscriber::fmt().with_target(false).without_time().init();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1999".to_owned());
    let data = std::env::var_os("PARTYKIT_DATA").unwrap_or_else(|| ".partykit".into());
    let board = Runtime::builder().party::<Board>("board").data(data);
    board.fallback(async |request| page::answer(&request)).serve(address).await
}
