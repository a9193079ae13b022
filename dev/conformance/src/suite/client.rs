use std::{fmt, time::Duration};

use futures_util::{SinkExt, StreamExt};
use partykit::http::HeaderMap;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message, Utf8Bytes,
        handshake::client::Request,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{Answer, Target, target::within};
use crate::Command;

/// A WebSocket of a client.
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    headers: HeaderMap,
    deadline: Duration,
}

/// What a client is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "there is no more in RFC 6455")]
pub enum Frame {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A pong. (Pings are answered and not shown.)
    Pong(Vec<u8>),
    /// A Close, with a code and a reason or without.
    Close(Option<(u16, String)>),
    /// The end of the TCP connection.
    End,
}

impl Client {
    pub(super) async fn connect(target: &Target, request: Request) -> Result<Self, Answer> {
        let what = request.uri().to_string();
        let connected = async {
            let stream = TcpStream::connect(target.authority()).await.expect("the server listens");
            client_async(request, stream).await
        };
        match target.expect("answer to the handshake", connected).await {
            Ok((socket, response)) => {
                let headers = response.headers().clone();
                Ok(Self { socket, headers, deadline: target.deadline() })
            }
            Err(Error::Http(answer)) => {
                let (head, body) = answer.into_parts();
                let body = body.unwrap_or_default().into();
                Err(Answer::new(head.status.as_u16(), head.headers, body))
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }

    /// A header of the handshake's answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Sends a text.
    pub async fn say(&mut self, text: impl Into<String>) {
        self.put(Message::Text(text.into().into())).await;
    }

    /// Sends bytes.
    pub async fn say_bytes(&mut self, bytes: impl Into<Vec<u8>>) {
        self.put(Message::Binary(bytes.into().into())).await;
    }

    /// Sends a command.
    pub async fn tell(&mut self, command: Command) {
        self.say(serde_json::to_string(&command).expect("a command is JSON")).await;
    }

    /// Sends a command and returns what comes next, as JSON.
    pub async fn ask(&mut self, command: Command) -> Value {
        self.tell(command).await;
        self.next_json().await
    }

    /// Sends a ping.
    pub async fn ping(&mut self, payload: &[u8]) {
        self.put(Message::Ping(payload.to_vec().into())).await;
    }

    /// Sends a pong that nobody asked for.
    pub async fn pong(&mut self, payload: &[u8]) {
        self.put(Message::Pong(payload.to_vec().into())).await;
    }

    /// Sends a Close. The client sends nothing after it.
    pub async fn close(&mut self, close: Option<(u16, &str)>) {
        let frame = close.map(|(code, reason)| CloseFrame {
            code: CloseCode::from(code),
            reason: Utf8Bytes::from(reason),
        });
        self.put(Message::Close(frame)).await;
    }

    /// Whatever comes next.
    ///
    /// # Panics
    ///
    /// When nothing does.
    pub async fn next(&mut self) -> Frame {
        loop {
            return match within(self.deadline, "frame for the client", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => Frame::Text(text.to_string()),
                Some(Ok(Message::Binary(bytes))) => Frame::Binary(bytes.to_vec()),
                Some(Ok(Message::Ping(_))) => continue,
                Some(Ok(Message::Pong(payload))) => Frame::Pong(payload.to_vec()),
                Some(Ok(Message::Close(frame))) => {
                    Frame::Close(frame.map(|it| (it.code.into(), it.reason.to_string())))
                }
                Some(Ok(Message::Frame(_))) => unreachable!("a whole message is read"),
                None | Some(Err(_)) => Frame::End,
            };
        }
    }

    /// Waits for the server to ping; it is answered.
    ///
    /// # Panics
    ///
    /// When something else comes, or nothing.
    pub async fn next_ping(&mut self) {
        match within(self.deadline, "ping for the client", self.socket.next()).await {
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("a ping is expected, not {other:?}"),
        }
    }

    /// The next frame, which has to be a text.
    ///
    /// # Panics
    ///
    /// When it is something else.
    pub async fn next_text(&mut self) -> String {
        match self.next().await {
            Frame::Text(text) => text,
            other => panic!("a text is expected, not {other:?}"),
        }
    }

    /// The next frame, which has to be a text with JSON in it.
    ///
    /// # Panics
    ///
    /// When it is something else.
    pub async fn next_json(&mut self) -> Value {
        let text = self.next_text().await;
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("JSON is expected, not {text:?}"))
    }

    /// The Close that comes next, and after it the end.
    ///
    /// # Panics
    ///
    /// When something else comes.
    pub async fn next_close(&mut self) -> Option<(u16, String)> {
        match self.next().await {
            Frame::Close(close) => {
                let end = self.next().await;
                assert_eq!(end, Frame::End, "after a Close the connection ends");
                close
            }
            other => panic!("a Close is expected, not {other:?}"),
        }
    }

    /// Makes sure that nothing was sent to this client that it has not seen: an echo comes next.
    ///
    /// # Panics
    ///
    /// When something else comes before the echo.
    pub async fn has_seen_all(&mut self) {
        self.say("is there more?").await;
        let next = self.next().await;
        assert_eq!(next, Frame::Text("is there more?".into()), "there is something unexpected");
    }

    /// Ends the TCP connection without a Close.
    pub fn vanish(self) {
        drop(self);
    }

    async fn put(&mut self, message: Message) {
        match within(self.deadline, "reading server", self.socket.send(message)).await {
            // A server that has closed may be seen to have by what comes next.
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Io(_)) => {}
            Err(Error::Protocol(_)) => {}
            Err(error) => panic!("the client cannot send: {error}"),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
