//! A runtime that serves over the transport of this binary, and clients that want nothing but the wire.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use partykit_core::{Body, Request};
use partykit_runtime_tokio::{Builder, Handle};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, client::IntoClientRequest, http, protocol::WebSocketConfig},
};

use crate::transport::{Door, Transport};

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(20);

/// Ends with the future, or fails the test.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(NEVER, future).await.expect("it never happens")
}

/// Waits until it holds.
pub(crate) async fn eventually(mut holds: impl FnMut() -> bool) {
    within(async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A runtime that serves.
pub(crate) struct Site {
    pub(crate) handle: Handle,
    /// What clients call the site. A Unix socket has no such name; any will do.
    pub(crate) addr: SocketAddr,
    pub(crate) serving: JoinHandle<()>,
    door: Door,
}

pub(crate) async fn serve(builder: Builder) -> Site {
    let runtime = builder.in_memory().shutdown_spread(Duration::from_millis(20)).build().unwrap();
    let handle = runtime.handle();
    let tcp = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (door, serving) = match crate::TRANSPORT {
        Transport::Tcp => {
            let listener = tcp().await;
            let door = Door::Tcp(listener.local_addr().unwrap());
            (door, tokio::spawn(async move { runtime.serve_on(listener).await }))
        }
        #[cfg(unix)]
        Transport::Unix => {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("socket");
            let listener = tokio::net::UnixListener::bind(path).unwrap();
            let serving = tokio::spawn(async move { runtime.serve_on(listener).await });
            (Door::Unix(directory), serving)
        }
        #[cfg(feature = "tls")]
        Transport::Tls => {
            let listener = tcp().await;
            let (config, connector) = crate::transport::tls();
            let door = Door::Tls(listener.local_addr().unwrap(), connector);
            let listener = partykit_runtime_tokio::TlsListener::new(listener, config);
            (door, tokio::spawn(async move { runtime.serve_on(listener).await }))
        }
    };
    Site { handle, addr: door.addr(), serving, door }
}

impl Site {
    /// A connection on which nothing has been said.
    pub(crate) async fn stream(&self) -> Stream {
        self.try_stream().await.unwrap()
    }

    /// The same, if somebody listens.
    pub(crate) async fn try_stream(&self) -> io::Result<Stream> {
        self.door.connect().await
    }

    /// Where addresses begin, as rooms see them.
    pub(crate) fn base(&self) -> String {
        format!("{}://{}", self.door.scheme(), self.addr)
    }

    /// A WebSocket to this path.
    pub(crate) async fn connect(&self, path: &str) -> Client {
        self.try_connect(path, &[]).await.unwrap().0
    }

    /// The same with these headers, and the answer to the handshake.
    pub(crate) async fn try_connect(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Client, Answer), Answer> {
        let mut request = format!("ws://{}{path}", self.addr).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let config = WebSocketConfig::default().max_write_buffer_size(usize::MAX);
        let connecting = client_async_with_config(request, self.stream().await, Some(config));
        match within(connecting).await {
            Ok((socket, answer)) => Ok((Client(socket), answer.map(|_| String::new()))),
            Err(tungstenite::Error::Http(answer)) => {
                Err(answer.map(|body| String::from_utf8(body.unwrap_or_default()).unwrap()))
            }
            Err(error) => panic!("no answer to the handshake: {error}"),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], "").await
    }

    /// A plain request on a connection of its own.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.addr);
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        parse(&self.raw(text.as_bytes()).await)
    }

    /// Sends these bytes on a new connection and reads until it ends.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.stream().await;
        // A client that is refused early may not be read to the end.
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
        read_to_end(&mut stream).await
    }

    /// What a room answers to a GET through the handle.
    pub(crate) async fn ask(&self, party: &str, room: &str) -> String {
        let answer = within(self.handle.request(party, room, Request::new(Body::empty()))).await;
        String::from_utf8(answer.unwrap().body().bytes().unwrap().to_vec()).unwrap()
    }
}

/// The client's end of a connection.
pub(crate) type Stream = Box<dyn Duplex>;

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// All that arrives until the connection ends, however it does.
pub(crate) async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let ended = within(stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok() || !answer.is_empty(), "reset without an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) type Answer = http::Response<String>;

/// Takes one HTTP response apart, and insists that there is just one.
pub(crate) fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let mut lines = head.split("\r\n");
    let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = http::Response::builder().status(status);
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        answer = answer.header(name, value);
    }
    assert!(!body.contains("HTTP/1.1 ") && !body.contains("HTTP/1.0 "), "two responses: {text:?}");
    answer.body(body.to_owned()).unwrap()
}

pub(crate) fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

/// A WebSocket client.
pub(crate) struct Client(WebSocketStream<Stream>);

impl Client {
    pub(crate) async fn send(&mut self, text: &str) {
        within(self.0.send(text.into())).await.unwrap();
    }

    pub(crate) async fn send_message(&mut self, message: impl Into<tungstenite::Message>) {
        within(self.0.send(message.into())).await.unwrap();
    }

    /// The next text.
    pub(crate) async fn text(&mut self) -> String {
        match self.next().await {
            tungstenite::Message::Text(text) => text.as_str().to_owned(),
            other => panic!("no text: {other:?}"),
        }
    }

    /// The Close that comes next, answered.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        self.closed_or_text().await.unwrap_or_else(|text| panic!("no Close: {text}"))
    }

    /// The Close that comes next, answered, or the text.
    pub(crate) async fn closed_or_text(&mut self) -> Result<(u16, String), String> {
        match self.next().await {
            tungstenite::Message::Close(Some(frame)) => {
                while let Some(Ok(_)) = within(self.0.next()).await {}
                Ok((frame.code.into(), frame.reason.as_str().to_owned()))
            }
            tungstenite::Message::Text(text) => Err(text.as_str().to_owned()),
            other => panic!("neither text nor Close: {other:?}"),
        }
    }

    /// The bare connection, for what no client says.
    pub(crate) fn into_raw(self) -> Stream {
        self.0.into_inner()
    }

    pub(crate) async fn send_bytes(&mut self, bytes: Vec<u8>) {
        within(self.0.send(bytes.into())).await.unwrap();
    }

    /// Closes, and waits for the end.
    pub(crate) async fn close(mut self) {
        self.0.close(None).await.unwrap();
        while let Some(Ok(_)) = within(self.0.next()).await {}
    }

    /// The Ping that comes next.
    pub(crate) async fn pinged(&mut self) {
        let message = self.message().await;
        assert!(message.is_ping(), "no Ping: {message:?}");
    }

    /// What comes next, of whatever kind.
    pub(crate) async fn message(&mut self) -> tungstenite::Message {
        within(self.0.next()).await.unwrap().unwrap()
    }

    async fn next(&mut self) -> tungstenite::Message {
        loop {
            match self.message().await {
                tungstenite::Message::Ping(_) | tungstenite::Message::Pong(_) => {}
                message => return message,
            }
        }
    }
}

/// Whether a text ends with an error id, and has nothing of `secret`.
pub(crate) fn tells_only_an_id(text: &str, secret: &str) -> bool {
    let id = text.trim_end().rsplit(' ').next().unwrap_or_default();
    id.len() == 16 && id.bytes().all(|c| c.is_ascii_hexdigit()) && !text.contains(secret)
}
