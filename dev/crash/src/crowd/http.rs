use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::HOST,
};
use hyper_util::rt::TokioIo;
use partykit::BoxError;
use tokio::net::TcpStream;

use super::{Room, hear, text, within};
use crate::protocol::{Ask, LEDGER, Told};

/// Sends one request on a connection of its own, and reads the answer.
pub(crate) async fn ask(address: SocketAddr, path: &str, body: String) -> Result<Bytes, BoxError> {
    send(&mut connect(address).await?, address, path, body).await
}

/// Writes one number after the other on one connection.
pub(super) async fn write(address: SocketAddr, room: &Room, writer: &str) -> Result<(), BoxError> {
    let mut connection = connect(address).await?;
    loop {
        write_one(&mut connection, address, room, writer).await?;
    }
}

/// The same on a connection for each.
pub(super) async fn write_apart(
    address: SocketAddr,
    room: &Room,
    writer: &str,
) -> Result<(), BoxError> {
    loop {
        write_one(&mut connect(address).await?, address, room, writer).await?;
    }
}

async fn write_one(
    connection: &mut SendRequest<Full<Bytes>>,
    address: SocketAddr,
    room: &Room,
    writer: &str,
) -> Result<(), BoxError> {
    let path = format!("/parties/{LEDGER}/{}", room.name);
    let number = room.history().write(writer);
    let ask = text(&Ask::Write { writer: writer.to_owned(), number });
    let answer = send(connection, address, &path, ask).await?;
    match hear(room, &answer)? {
        Told::Wrote(entry) if entry.number == number => Ok(()),
        _ => Err(format!("{writer} asked to write {number}, and was told otherwise").into()),
    }
}

pub(super) async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, BoxError> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its error is also that of the request.
    tokio::spawn(async { drop(connection.await) });
    Ok(sender)
}

/// Sends a request whose answer is to be its body.
pub(super) async fn send(
    connection: &mut SendRequest<Full<Bytes>>,
    address: SocketAddr,
    path: &str,
    body: String,
) -> Result<Bytes, BoxError> {
    let (status, body) = exchange(connection, address, path, body).await?;
    match status {
        StatusCode::OK => Ok(body),
        _ => Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&body)).into()),
    }
}

/// Sends a request that is to fail.
pub(super) async fn fail(
    connection: &mut SendRequest<Full<Bytes>>,
    address: SocketAddr,
    path: &str,
    body: String,
) -> Result<(), BoxError> {
    let (status, body) = exchange(connection, address, path, body).await?;
    match status {
        StatusCode::INTERNAL_SERVER_ERROR => Ok(()),
        _ => Err(format!("{path}: {status} instead of a failure: {body:?}").into()),
    }
}

async fn exchange(
    connection: &mut SendRequest<Full<Bytes>>,
    address: SocketAddr,
    path: &str,
    body: String,
) -> Result<(StatusCode, Bytes), BoxError> {
    let request = Request::post(path).header(HOST, address.to_string());
    let request = request.body(Full::new(body.into()))?;
    connection.ready().await?;
    let response = within("answer", connection.send_request(request)).await??;
    let status = response.status();
    let body = within("body", response.into_body().collect()).await??.to_bytes();
    Ok((status, body))
}
