//! Serves the editor, with its page: `cargo run -p editor [ADDRESS]`. What it stores is in the directory
//! that `PARTYKIT_DATA` names, else in `./.partykit`.

mod page;

use editor::Documents;
use partykit::{Result, Runtime};

#[tokio::main]
async fn main() -> Result {
    tracing_subscriber::fmt().with_target(false).without_time().init();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1999".to_owned());
    let data = std::env::var_os("PARTYKIT_DATA").unwrap_or_else(|| ".partykit".into());
    let documents = Runtime::builder().party::<Documents>("main").data(data);
    documents.fallback(async |request| page::answer(&request)).serve(address).await
}
