//! The runtime as a part of an axum server.

use std::{net::SocketAddr, time::Duration};

use axum::{Extension, Router, extract::ConnectInfo, middleware, routing::get};
use futures_util::{SinkExt, StreamExt};
use partykit_core::{
    Admit, Connection, Lobby, Message, Options, Request, Response, Result, Room, RoomPhase, Server,
};
use partykit_runtime_tokio::{Builder, Handle, Runtime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message as Frame},
};

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(20);

/// What a layer knows of who is asking.
#[derive(Clone, Debug, PartialEq)]
struct User(&'static str);

#[derive(Default)]
struct Echo;

impl Server for Echo {
    fn options() -> Options {
        Options::new().hibernate(true).hibernate_after(Duration::from_secs(3600))
    }

    async fn on_before_connect(request: Request, _: &Lobby) -> Result<Admit> {
        assert_eq!(request.extensions().get(), Some(&User("ada")), "the layer's");
        Ok(Admit::from(request))
    }

    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        sender.send(message);
        Ok(())
    }

    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        let peer = request.extensions().get::<SocketAddr>().is_some();
        let body = request.body().bytes().map_or(0, |bytes| bytes.len());
        let text = format!("{} {} {body} {peer}", room.id(), request.uri());
        Ok(Response::new(text.into()))
    }
}

struct Site {
    addr: SocketAddr,
    handle: Handle,
    down: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

/// Serves what `mount` makes of the runtime, behind a layer as users have them.
async fn serve(builder: Builder, mount: impl FnOnce(&Runtime) -> Router) -> Site {
    let runtime = builder.in_memory().shutdown_spread(Duration::ZERO).build().unwrap();
    let handle = runtime.handle();
    let layer = middleware::from_fn(
        async |ConnectInfo(peer): ConnectInfo<SocketAddr>,
               mut request: axum::extract::Request,
               next: middleware::Next| {
            request.extensions_mut().insert(peer);
            next.run(request).await
        },
    );
    let app = mount(&runtime).layer(layer).layer(Extension(User("ada")));
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (down, told) = oneshot::channel();
    let runtime = handle.clone();
    let serving = tokio::spawn(async move {
        let down = async move {
            if told.await.is_ok() {
                runtime.shutdown().await;
            }
        };
        axum::serve(listener, app).with_graceful_shutdown(down).await.unwrap();
    });
    Site { addr, handle, down, serving }
}

fn echo() -> Builder {
    Runtime::builder()
        .party::<Echo>("echo")
        .fallback(async |_| Response::new("the runtime's fallback".into()))
}

impl Site {
    async fn connect(&self, path: &str) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
        self.try_connect(path).await.unwrap()
    }

    async fn try_connect(
        &self,
        path: &str,
    ) -> tungstenite::Result<WebSocketStream<MaybeTlsStream<TcpStream>>> {
        let connecting = connect_async(format!("ws://{}{path}", self.addr));
        Ok(within(connecting).await?.0)
    }

    /// The whole answer to a request.
    async fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.addr,
            body.len()
        );
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }
}

#[tokio::test]
async fn rooms_stand_beside_routes_and_end_with_the_server() {
    let site = serve(echo(), |runtime| {
        Router::new().route("/health", get(async || "well")).fallback_service(runtime.service())
    })
    .await;
    assert!(site.ask("GET", "/health", "").await.ends_with("well"));
    assert!(site.ask("GET", "/nobody", "").await.ends_with("the runtime's fallback"));
    let url = format!("http://{}/parties/echo/a%20b?c=d", site.addr);
    let answer = site.ask("POST", "/parties/echo/a%20b?c=d", "body").await;
    assert!(answer.ends_with(&format!("a b {url} 4 true")), "{answer}");

    let mut client = site.connect("/parties/echo/a").await;
    let long = Frame::binary(vec![7; 1 << 20]);
    for _ in 0..3 {
        for message in [Frame::text("hello"), long.clone()] {
            client.send(message.clone()).await.unwrap();
            assert!(within(client.next()).await.unwrap().unwrap() == message);
        }
        within(site.handle.evict("echo", "a")).await.unwrap();
        assert_eq!(site.handle.room_stats("echo", "a").unwrap().phase, RoomPhase::Asleep);
    }

    site.down.send(()).unwrap();
    match within(client.next()).await.unwrap().unwrap() {
        Frame::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1012),
        other => panic!("no Close: {other:?}"),
    }
    while let Some(Ok(_)) = within(client.next()).await {}
    drop(client);
    within(site.serving).await.unwrap();
}

#[tokio::test]
async fn a_route_leaves_the_rest_to_axum() {
    let site = serve(echo(), |runtime| {
        Router::new()
            .route_service("/parties/{*rest}", runtime.service().encrypted())
            .fallback(async || "axum's fallback")
    })
    .await;
    assert!(site.ask("GET", "/nobody", "").await.ends_with("axum's fallback"));
    let url = format!("https://{}/parties/echo/a", site.addr);
    assert!(site.ask("GET", "/parties/echo/a", "").await.ends_with(&format!("a {url} 0 true")));
    let refused = site.try_connect("/parties/nobody/a").await.unwrap_err();
    assert!(matches!(refused, tungstenite::Error::Http(answer) if answer.status() == 404));
}

#[tokio::test]
async fn a_nested_runtime_has_no_prefix() {
    let site =
        serve(echo().prefix(""), |runtime| Router::new().nest_service("/live", runtime.service()))
            .await;
    let url = format!("http://{}/echo/a", site.addr);
    assert!(site.ask("GET", "/live/echo/a", "").await.ends_with(&format!("a {url} 0 true")));
    let mut client = site.connect("/live/echo/a").await;
    client.send("hello".into()).await.unwrap();
    assert_eq!(within(client.next()).await.unwrap().unwrap(), "hello".into());
}

/// Ends with the future, or fails the test.
async fn within<F: Future>(future: F) -> F::Output {
    timeout(NEVER, future).await.expect("it never happens")
}
