//! The fixture in `workerd`, and clients of it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use partykit_workerd::{Project, Workerd};
use tungstenite::{Message, WebSocket};

/// Far longer than anything takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixture")
}

pub(crate) fn start() -> Workerd {
    let project = Project::open(fixture()).expect("a project").party("main", "Fixture");
    Workerd::start(&project).expect("`cargo xtask workerd` builds the fixture first")
}

/// Status and body of the answer.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    send(address, "GET", path, "")
}

/// The same of a request with a body.
pub(crate) fn send(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("a server");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

/// A client that speaks and waits for the answer.
pub(crate) struct Client(WebSocket<TcpStream>);

impl Client {
    /// Of a room of the fixture.
    pub(crate) fn connect(address: SocketAddr, room: &str) -> Self {
        Self::at(address, &format!("/{room}/socket"))
    }

    pub(crate) fn at(address: SocketAddr, path: &str) -> Self {
        let stream = TcpStream::connect(address).expect("a server");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let url = format!("ws://{address}{path}");
        Self(tungstenite::client(url, stream).expect("an upgrade").0)
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).expect("an open socket");
    }

    pub(crate) fn ask(&mut self, text: &str) -> String {
        self.say(text);
        self.hear()
    }

    pub(crate) fn hear(&mut self) -> String {
        self.0.read().expect("a message").into_text().expect("text").to_string()
    }
}
