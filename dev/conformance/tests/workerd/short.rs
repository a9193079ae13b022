//! The short way: a request like one that was passed on as it was goes to its room without the entry's wasm.

use std::sync::Arc;

use partykit::http::{Method, Request};
use partykit_conformance::{
    Command,
    suite::{Answer, Mode, Target},
};
use partykit_workerd::Workerd;

use crate::support::{start, target};

/// How many clients' requests have come to this room by the short way.
fn short(workerd: &Workerd, room: &str) -> usize {
    let lines = workerd.lines().expect("a log");
    let is_short = |line: &&String| line.contains("by the short way") && line.contains(room);
    lines.iter().filter(is_short).count()
}

fn has_object(workerd: &Workerd, room: &str) -> bool {
    let lines = workerd.lines().expect("a log");
    lines.iter().any(|line| line.contains("the object is in memory") && line.contains(room))
}

async fn get(target: &Target, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    target.send_request(request.body("".into()).expect("a request")).await
}

fn seen(answer: &Answer) -> (u16, String, Vec<String>) {
    let names = ["vary", "access-control-allow-origin", "content-type"];
    let headers = names.iter().flat_map(|name| answer.headers(name));
    (answer.status(), answer.text(), headers.map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn the_second_request_of_its_kind_takes_it_and_is_answered_alike() {
    let workerd = start();
    let target = target(&workerd);
    let first = get(&target, "/parties/desk/short-1/more?a=b", &[]).await;
    assert_eq!((first.status(), &*first.text()), (200, "abc"));
    for (room, path) in
        [("short-1", "/parties/desk/short-1/more?a=b"), ("short-2", "/parties/desk/short-2")]
    {
        assert_eq!(short(&workerd, room), 0, "{room}");
        assert_eq!(seen(&get(&target, path, &[]).await), seen(&first), "{path}");
        assert_eq!(short(&workerd, room), 1, "{room}");
    }
    let page = target.base().to_owned();
    for is_short in [false, true] {
        let answer = get(&target, "/parties/desk/short-3", &[("origin", &page)]).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(&*page));
        assert_eq!(
            short(&workerd, "short-3"),
            usize::from(is_short),
            "another page is another kind"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn a_connection_that_takes_it_is_one_like_others() {
    let workerd = start();
    let target = target(&workerd);
    let room = target.room_of("desk", "short-talk");
    let mut first = room.connect("ada").await;
    assert_eq!(short(&workerd, room.id()), 0);
    let mut second = room.connect("bob").await;
    assert_eq!(short(&workerd, room.id()), 1);
    second.say("hello").await;
    assert_eq!(
        (first.next_text().await, second.next_text().await),
        ("hello".into(), "hello".into())
    );
    target.control().put_to_sleep("desk", room.id()).await;
    first.say("again").await;
    assert_eq!(second.next_text().await, "again", "it survives a sleep");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn what_the_entry_has_to_judge_does_not_take_it() {
    let workerd = start();
    let target = target(&workerd);
    for _ in 0..2 {
        get(&target, "/parties/desk/short-known", &[]).await;
        target.room_of("desk", "short-known").connect("ada").await;
    }
    // Believed, it would be answered with nothing.
    let forged = r#"{"kind":"Tell","method":"GET","uri":"/","headers":[],"props":null,"page":null,"chain":[]}"#;
    for name in ["x-partykit-envelope", "X-PartyKit-Envelope"] {
        let answer = get(&target, "/parties/desk/short-forged", &[(name, forged)]).await;
        assert_eq!((answer.status(), &*answer.text()), (200, "abc"), "{name}");
    }
    for (path, status) in [
        ("/parties/desk/short-%66orged", 200),
        ("/parties/desk/short-forged?a=%20", 200),
        ("//parties/desk/short-forged", 200),
        ("/parties/nobody/short-forged", 404),
        ("/parties/desk/", 404),
        ("/parties/desk/short-forged%zz", 400),
    ] {
        let answer = get(&target, path, &[]).await;
        assert_eq!(answer.status(), status, "{path}");
    }
    let posted = target.send(Method::POST, "/parties/desk/short-forged", "body").await;
    assert_eq!(posted.status(), 200);
    assert_eq!(short(&workerd, "short-forged"), 0);

    // Clients that are refused make no object.
    let refused = target.room_of("desk", "short-refused");
    for (query, headers) in [
        ("?_pk=", &[][..]),
        ("?a=b&_pk=&_pk=ada", &[]),
        ("?_pk=ada", &[("origin", "https://evil.example")]),
    ] {
        let answer = refused.try_connect(query, headers).await.expect_err("no 101");
        assert!(matches!(answer.status(), 400 | 403), "{query}");
    }
    assert!(!has_object(&workerd, refused.id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn a_party_with_hooks_is_never_asked_by_it() {
    let workerd = start();
    let target = target(&workerd);
    let room = target.room(Mode::Hibernating, "short-hooked");
    for _ in 0..3 {
        room.get("").await;
        room.connect("ada").await.ask(Command::Motto).await;
    }
    assert_eq!(short(&workerd, room.id()), 0);
}

/// The object fails, and the client gets an answer with an error's id; the next one is answered as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn a_failure_on_it_is_answered_as_any_other() {
    let workerd: Arc<Workerd> = start();
    let target = target(&workerd);
    for _ in 0..2 {
        assert_eq!(get(&target, "/parties/desk/short-panic", &[]).await.text(), "abc");
    }
    let failed = get(&target, "/parties/desk/short-panic?panic", &[]).await;
    assert_eq!((short(&workerd, "short-panic"), failed.status()), (2, 500));
    assert!(failed.text().contains("error "), "{}", failed.text());
    assert_eq!(get(&target, "/parties/desk/short-panic", &[]).await.text(), "abc");
    assert_eq!(short(&workerd, "short-panic"), 3);
}
