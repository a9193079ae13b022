//! The server that one writes first: a task for each socket, tokio-tungstenite with its defaults.
//! It only echoes, and has no rooms.

use futures_util::{SinkExt, StreamExt};
use partykit::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    accept_async,
    tungstenite::{self, Message},
};

use super::talk;

pub(super) fn run() -> Result<()> {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = tokio.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    tokio.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    talk(address, |question| format!("unknown question {question}"))
}

async fn echo(stream: TcpStream) -> tungstenite::Result<()> {
    stream.set_nodelay(true)?;
    let mut socket = accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        if let Message::Text(text) = message? {
            let answer = format!("a{}", &text[1..]);
            socket.send(Message::text(answer)).await?;
        }
    }
    Ok(())
}
