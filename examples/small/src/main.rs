//! Serves the four: `cargo run -p small [ADDRESS]`.

use partykit::{Result, Runtime};
use small::{Chat, Poll, Presence, Webhook};

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1999".to_owned());
    Runtime::builder()
        .party::<Chat>("chat")
        .party::<Presence>("presence")
        .party::<Webhook>("webhook")
        .party::<Poll>("poll")
        .serve(address)
        .await
}
