use futures_util::stream;
use partykit_core::{Body, Options, Request, RequestExt, Response, Result, Room, Server};
use partykit_runtime_tokio::Runtime;

use crate::support::{eventually, header, parse, read_to_end, serve, tells_only_an_id};
use tokio::io::AsyncWriteExt;

/// Says what it was asked.
#[derive(Default)]
struct Mirror;

impl Server for Mirror {
    fn options() -> Options {
        Options::new().max_request_body(10)
    }

    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        let path = request.uri().path();
        if path.ends_with("/wrong-length") {
            let response = http::Response::builder().header("content-length", "99");
            return Ok(response.body("short".into())?);
        }
        if path.ends_with("/fail") {
            return Err("the secret detail".into());
        }
        if path.ends_with("/switch") {
            return Ok(http::Response::builder().status(101).body(Body::empty())?);
        }
        if path.ends_with("/stream") {
            let pieces = ["a", "b", "c"].map(|piece| Ok(piece.into()));
            return Ok(Response::new(Body::stream(stream::iter(pieces))));
        }
        if request.method() == http::Method::DELETE {
            return Ok(http::Response::builder().status(405).body(Body::empty())?);
        }
        let body = String::from_utf8(request.body().bytes().unwrap().to_vec())?;
        let var = room.var("GREETING").unwrap_or_default();
        let text = format!("{} {} {} [{body}] {var}", request.method(), request.uri(), room.id());
        Ok(Response::new(text.into()))
    }
}

#[derive(Default)]
struct Silent;

impl Server for Silent {}

fn builder() -> partykit_runtime_tokio::Builder {
    Runtime::builder().party::<Mirror>("mirror").party::<Silent>("silent").var("GREETING", "hi")
}

#[tokio::test]
async fn a_room_answers_a_request() {
    let site = serve(builder()).await;
    let answer = site.request("POST", "/parties/mirror/my%20room/more?q=1", &[], "body").await;
    assert_eq!(answer.status(), 200);
    let uri = format!("{}/parties/mirror/my%20room/more?q=1", site.base());
    assert_eq!(answer.body(), &format!("POST {uri} my room [body] hi"));
    assert_eq!(
        site.get("/parties/mirror/a/stream").await.body().matches(['a', 'b', 'c']).count(),
        3
    );
}

#[tokio::test]
async fn environment_variables_stand_behind_those_that_were_set() {
    let name = "CARGO_PKG_NAME";
    let site = serve(Runtime::builder().party_with("vars", move |_| Var(name))).await;
    assert_eq!(site.ask("vars", "a").await, "partykit-runtime-tokio");
    let builder = Runtime::builder().party_with("vars", move |_| Var(name)).var(name, "mine");
    assert_eq!(serve(builder).await.ask("vars", "a").await, "mine");
    let site = serve(Runtime::builder().party_with("vars", |_| Var("A=B\0"))).await;
    assert_eq!(site.ask("vars", "a").await, "none");
}

struct Var(&'static str);

impl Server for Var {
    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        Ok(Response::new(room.var(self.0).unwrap_or_else(|| "none".into()).into()))
    }
}

#[tokio::test]
async fn what_is_no_room_is_not_found() {
    let site = serve(builder()).await;
    for (path, status) in [
        ("/", 404),
        ("/index.html", 404),
        ("/party/mirror/a", 404),
        ("/parties", 404),
        ("/parties/mirror", 404),
        ("/parties/mirror/", 404),
        ("/parties/nobody/a", 404),
        ("/parties/silent/a", 404),
        ("/parties/mirror/%zz", 400),
        ("/parties/mirror/%ff", 400),
    ] {
        assert_eq!(site.get(path).await.status(), status, "{path}");
    }
    assert_eq!(site.get(&format!("/parties/mirror/{}", "x".repeat(1025))).await.status(), 400);
    assert_eq!(site.request("DELETE", "/parties/mirror/a", &[], "").await.status(), 405);
    eventually(|| site.handle.stats().parties["silent"].rooms == 0).await;
    let wakes = site.handle.stats().parties["silent"].account.wakes();
    assert_eq!(wakes, 1, "a 404 of the room is the room's");
}

#[tokio::test]
async fn the_prefix_and_the_fallback_are_the_users() {
    let fallback = async |request: Request| {
        assert!(request.uri().path() != "/panic", "on purpose");
        let peer = request.extensions().get::<std::net::SocketAddr>().is_some();
        let body = request.json::<u32>().unwrap_or(0);
        Response::new(format!("{} {} {peer} {body}", request.method(), request.uri().path()).into())
    };
    let site = serve(builder().prefix("/api/rooms").fallback(fallback)).await;
    assert!(site.get("/api/rooms/mirror/a").await.body().ends_with("a [] hi"));
    let answer = site.request("POST", "/parties/mirror/a", &[], "7").await;
    assert_eq!(
        (answer.status().as_u16(), answer.body().as_str()),
        (200, &*format!("POST /parties/mirror/a {} 7", crate::TRANSPORT.has_addresses()))
    );
    let broken = site.get("/panic").await;
    assert_eq!(broken.status(), 500);
    assert!(tells_only_an_id(broken.body(), "on purpose"), "{}", broken.body());
    let long = "x".repeat((2 << 20) + 1);
    assert_eq!(site.request("POST", "/", &[], &long).await.status(), 413);
}

#[tokio::test]
async fn a_body_over_the_limit_never_reaches_the_room() {
    let site = serve(builder()).await;
    let path = "/parties/mirror/a";
    assert_eq!(site.request("POST", path, &[], "0123456789").await.status(), 200);
    assert_eq!(site.request("POST", "/parties/mirror/b", &[], "0123456789a").await.status(), 413);
    let chunked = format!(
        "POST /parties/mirror/b HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n\
         6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n",
        site.addr
    );
    assert_eq!(parse(&site.raw(chunked.as_bytes()).await).status(), 413);
    assert!(site.handle.room_stats("mirror", "b").is_none());
}

#[tokio::test]
async fn a_slow_body_holds_nobody_up() {
    let site = serve(builder()).await;
    let mut slow = site.stream().await;
    let head = format!(
        "POST /parties/mirror/a HTTP/1.1\r\nhost: {}\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbo",
        site.addr
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(site.get("/parties/mirror/a").await.status(), 200);
    slow.write_all(b"dy").await.unwrap();
    assert!(parse(&read_to_end(&mut slow).await).body().contains("[body]"));
}

#[tokio::test]
async fn a_head_is_a_get_without_a_body() {
    let site = serve(builder()).await;
    let answer = site.request("HEAD", "/parties/mirror/a", &[], "").await;
    assert_eq!((answer.status().as_u16(), answer.body().as_str()), (200, ""));
    let length: usize = header(&answer, "content-length").unwrap().parse().unwrap();
    assert!(length > 20);
    assert_eq!(site.request("HEAD", "/parties/mirror/a/stream", &[], "").await.body(), "");
    assert_eq!(site.request("HEAD", "/", &[], "").await.status(), 404);
}

#[tokio::test]
async fn a_handler_cannot_break_the_connection() {
    let site = serve(builder()).await;
    assert_eq!(site.get("/parties/mirror/a/wrong-length").await.body(), "short");
    for path in ["/parties/mirror/a/fail", "/parties/mirror/a/switch"] {
        let failed = site.get(path).await;
        assert_eq!(failed.status(), 500);
        assert!(tells_only_an_id(failed.body(), "secret"), "{}", failed.body());
    }
}
