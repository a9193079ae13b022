//! Files and pages beside rooms, by services of others: what is outside of the directory stays there.

use std::{convert::Infallible, fs, net::SocketAddr, path::Path};

use axum::{Router, routing::get};
use partykit_core::{Body, BoxError, Request, Response, Result, Room, Server};
use partykit_runtime_tokio::{Builder, Runtime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::service_fn;
use tower_http::services::{ServeDir, ServeFile};

#[derive(Default)]
struct Chat;

impl Server for Chat {
    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        Ok(Response::new(format!("room {}", room.id()).into()))
    }
}

async fn serve(change: impl FnOnce(Builder) -> Builder) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = change(Runtime::builder().party::<Chat>("chat").in_memory()).build().unwrap();
    tokio::spawn(async move { runtime.serve_on(listener).await });
    address
}

/// The answer to a request, whole.
async fn ask(address: SocketAddr, method: &str, path: &str, more: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // What breaks off may be reset.
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

fn site(directory: &Path) -> ServeDir {
    let dist = directory.join("dist");
    fs::create_dir(&dist).unwrap();
    fs::write(directory.join("secret.txt"), "a secret").unwrap();
    fs::write(dist.join("index.html"), "<p>the page</p>").unwrap();
    fs::write(dist.join("app.js"), "let x = 'a script';").unwrap();
    ServeDir::new(dist)
}

#[tokio::test]
async fn a_directory_is_served_beside_rooms_and_nothing_outside_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let files = site(directory.path());
    let address = serve(|builder| builder.fallback_service(files)).await;
    let page = ask(address, "GET", "/", "").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.ends_with("<p>the page</p>"), "{page}");
    assert!(page.contains("content-type: text/html\r\n"), "{page}");
    let script = ask(address, "GET", "/app.js?v=2", "").await;
    assert!(
        script.contains("javascript\r\n") && script.ends_with("let x = 'a script';"),
        "{script}"
    );
    assert!(script.contains("content-length: 19\r\n"), "{script}");
    let head = ask(address, "HEAD", "/app.js", "").await;
    assert!(head.contains("content-length: 19\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let part = ask(address, "GET", "/app.js", "range: bytes=4-4\r\n").await;
    assert!(part.starts_with("HTTP/1.1 206") && part.ends_with("\r\n\r\nx"), "{part}");
    for path in ["/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/no.js"] {
        let answer = ask(address, "GET", path, "").await;
        assert!(
            answer.starts_with("HTTP/1.1 404") && !answer.contains("secret"),
            "{path}: {answer}"
        );
    }
    let room = ask(address, "GET", "/parties/chat/app.js", "").await;
    assert!(room.ends_with("room app.js"), "{room}");
}

#[tokio::test]
async fn a_single_page_answers_for_all_that_is_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let index = directory.path().join("dist/index.html");
    let files = site(directory.path()).fallback(ServeFile::new(index));
    let address = serve(|builder| builder.fallback_service(files)).await;
    for path in ["/", "/some/route", "/partiesx"] {
        assert!(ask(address, "GET", path, "").await.ends_with("<p>the page</p>"), "{path}");
    }
    assert!(ask(address, "GET", "/parties/no/a", "").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_router_of_axum_can_be_the_fallback() {
    let router: Router = Router::new().route("/health", get(async || "well"));
    let address = serve(|builder| builder.fallback_service(router)).await;
    assert!(ask(address, "GET", "/health", "").await.ends_with("well"));
    assert!(ask(address, "GET", "/else", "").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_service_that_fails_panics_or_switches_is_a_500_without_its_words() {
    let failing = service_fn(async |request: Request| match request.uri().path() {
        "/panic" => panic!("hunter2"),
        "/switch" => {
            let answer = http::Response::builder().status(101).body(Body::empty());
            Ok(answer.unwrap())
        }
        _ => Err::<Response, BoxError>("hunter2".into()),
    });
    let address = serve(|builder| builder.fallback_service(failing)).await;
    for path in ["/fail", "/panic", "/switch"] {
        let answer = ask(address, "GET", path, "").await;
        assert!(answer.starts_with("HTTP/1.1 500"), "{path}: {answer}");
        assert!(answer.contains("the request failed, error "), "{path}: {answer}");
        assert!(!answer.contains("hunter2"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_ends_the_connection_and_not_the_server() {
    let broken = service_fn(async |request: Request| {
        let end = match request.uri().path() {
            "/broken" => Err(BoxError::from("hunter2")),
            _ => Ok(bytes::Bytes::from("and another")),
        };
        let pieces = [Ok(bytes::Bytes::from("a piece")), end];
        let body = Body::stream(futures_util::stream::iter(pieces));
        Ok::<_, Infallible>(http::Response::new(body))
    });
    let address = serve(|builder| builder.fallback_service(broken)).await;
    let answer = ask(address, "GET", "/broken", "").await;
    assert!(!answer.ends_with("0\r\n\r\n") && !answer.contains("hunter2"), "{answer}");
    let answer = ask(address, "GET", "/whole", "").await;
    assert!(answer.contains("and another\r\n0\r\n\r\n"), "{answer}");
}
