use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use partykit::BoxError;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, Utf8Bytes},
};

use super::{AHEAD, Room, UNDER_WAY, hear, now, text, within};
use crate::protocol::{Ask, LEDGER, Told};

pub(super) type Socket = WebSocketStream<TcpStream>;

/// Writes numbers, a few at a time, and hears what all others write.
pub(super) async fn write(address: SocketAddr, room: &Room, writer: &str) -> Result<(), BoxError> {
    let mut socket = connect(address, LEDGER, &room.name, writer).await?;
    let mut under_way = 0;
    loop {
        while under_way < UNDER_WAY {
            let number = room.history().write(writer);
            send(&mut socket, &Ask::Write { writer: writer.to_owned(), number }).await?;
            under_way += 1;
        }
        if matches!(next(&mut socket, room).await?, Told::Wrote(entry) if entry.writer == writer) {
            under_way -= 1;
        }
    }
}

/// Sets an alarm, waits until it rings, sets the next one; sometimes another one before it rings.
pub(super) async fn set_alarms(
    address: SocketAddr,
    room: &Room,
    mut random: fastrand::Rng,
) -> Result<(), BoxError> {
    let mut socket = connect(address, LEDGER, &room.name, "alarms").await?;
    loop {
        let at = now() + random.u64(..=AHEAD);
        let number = room.history().alarm(at);
        send(&mut socket, &Ask::Alarm { number, at }).await?;
        let replaced = random.u8(..4) == 0;
        let done = |told: &Told| match told {
            Told::Set { number: set, .. } => replaced && *set == number,
            Told::Rang(ring) => ring.number == number,
            _ => false,
        };
        let heard = async {
            while !done(&next(&mut socket, room).await?) {}
            Ok::<_, BoxError>(())
        };
        within("ring of an alarm", heard).await??;
    }
}

pub(super) async fn connect(
    address: SocketAddr,
    party: &str,
    room: &str,
    id: &str,
) -> Result<Socket, BoxError> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let url = format!("ws://{address}/parties/{party}/{room}?_pk={id}");
    Ok(within("handshake", client_async(url, stream)).await??.0)
}

pub(super) async fn send(socket: &mut Socket, ask: &Ask) -> Result<(), BoxError> {
    Ok(socket.send(Message::text(text(ask))).await?)
}

async fn next(socket: &mut Socket, room: &Room) -> Result<Told, BoxError> {
    hear(room, next_text(socket).await?.as_bytes())
}

pub(super) async fn next_text(socket: &mut Socket) -> Result<Utf8Bytes, BoxError> {
    loop {
        match within("frame", socket.next()).await? {
            Some(Ok(Message::Text(text))) => return Ok(text),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(other)) => return Err(format!("not what was expected: {other:?}").into()),
            Some(Err(error)) => return Err(error.into()),
            None => return Err("the server hung up".into()),
        }
    }
}
