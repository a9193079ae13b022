use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use partykit_core::{Admit, Body, Lobby, Request, Response, Result, Room, Server};
use partykit_runtime_tokio::{Builder, Runtime};

use crate::support::{Site, header, serve};

#[derive(Default)]
struct Open;

impl Server for Open {
    async fn on_before_connect(request: Request, lobby: &Lobby) -> Result<Admit> {
        Self::on_before_request(request, lobby).await
    }

    async fn on_before_request(request: Request, _: &Lobby) -> Result<Admit> {
        let refused = request.uri().path().ends_with("/refused");
        Ok(if refused { Admit::refuse(http::StatusCode::FORBIDDEN) } else { request.into() })
    }

    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        Ok(Response::new(Body::from("hello")))
    }
}

async fn connects(site: &Site, origin: &str) -> bool {
    match site.try_connect("/parties/main/a", &[("origin", origin)]).await {
        Ok(_) => true,
        Err(answer) => {
            assert_eq!(answer.status(), 403, "{origin}");
            false
        }
    }
}

#[tokio::test]
async fn only_pages_of_the_same_host_connect() {
    // As in a release build.
    let site = serve(Runtime::builder().party::<Open>("main").allow_localhost(false)).await;
    let host = site.addr.to_string();
    for origin in [
        "null",
        "https://example.com",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "http://localhost:1999",
        &format!("http://evil-{host}"),
        &format!("http://127.0.0.1.evil.com:{}", site.addr.port()),
        &format!("http://{host}@evil.com"),
        &format!("http://{host}/"),
        &host,
    ] {
        assert!(!connects(&site, origin).await, "{origin}");
    }
    assert!(site.handle.room_stats("main", "a").is_none(), "refused before any room");
    // Over TLS of our own, anybody on the network could have written a page that came without.
    let is_plain = site.base().starts_with("http:");
    assert_eq!(connects(&site, &format!("http://{host}")).await, is_plain);
    assert!(connects(&site, &format!("https://{host}")).await);
    drop(site.connect("/parties/main/a").await);
}

#[tokio::test]
async fn listed_origins_connect_too() {
    let builder = Runtime::builder().party::<Open>("main").allow_origins(["https://app.com"]);
    let site = serve(builder).await;
    assert!(connects(&site, "https://app.com").await);
    assert!(connects(&site, &site.base()).await);
    assert!(!connects(&site, "http://app.com").await);
    assert!(!connects(&site, "https://app.com.evil.com").await);
    let site = serve(Runtime::builder().party::<Open>("main").allow_any_origin()).await;
    assert!(connects(&site, "https://anything.example").await);
    assert!(connects(&site, "null").await);
}

#[tokio::test]
async fn browsers_are_told_who_may_read_an_answer() {
    let listed = Runtime::builder().party::<Open>("main").allow_origins(["https://app.com"]);
    let listed = serve(listed).await;
    let any = serve(Runtime::builder().party::<Open>("main").allow_any_origin()).await;
    let paths =
        ["/parties/main/a", "/parties/main/a/refused", "/parties/none/a", "/parties/main/%"];
    for path in paths {
        for (site, origin, allowed) in [
            (&listed, "https://app.com", Some("https://app.com")),
            (&listed, "https://evil.com", None),
            (&any, "https://evil.com", Some("*")),
        ] {
            let answer = site.request("GET", path, &[("origin", origin)], "").await;
            assert_eq!(header(&answer, "access-control-allow-origin"), allowed, "{path}");
        }
        let vary = listed.get(path).await;
        assert_eq!(header(&vary, "vary"), Some("origin"), "{path}");
        assert_eq!(header(&vary, "access-control-allow-origin"), None);
    }
}

fn counting(hooks: &Arc<AtomicUsize>) -> Builder {
    struct Counting;
    impl Server for Counting {
        async fn on_before_request(_: Request, lobby: &Lobby) -> Result<Admit> {
            panic!("no hook runs for a preflight of {}", lobby.id())
        }
    }
    let made = hooks.clone();
    Runtime::builder().party_with("main", move |_| {
        made.fetch_add(1, Ordering::Relaxed);
        Counting
    })
}

#[tokio::test]
async fn a_preflight_is_answered_before_any_hook() {
    let made = Arc::default();
    let site = serve(counting(&made).allow_origins(["https://app.com"])).await;
    let asking = [
        ("origin", "https://app.com"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "authorization, x-mine"),
    ];
    let answer = site.request("OPTIONS", "/parties/main/a", &asking, "").await;
    assert_eq!((answer.status().as_u16(), answer.body().as_str()), (204, ""));
    for (name, value) in [
        ("access-control-allow-origin", "https://app.com"),
        ("access-control-allow-methods", "PUT"),
        ("access-control-allow-headers", "authorization, x-mine"),
        ("access-control-max-age", "86400"),
    ] {
        assert_eq!(header(&answer, name), Some(value));
    }

    let evil = [("origin", "https://evil.com"), ("access-control-request-method", "PUT")];
    let answer = site.request("OPTIONS", "/parties/main/a", &evil, "").await;
    assert_eq!(answer.status(), 204);
    assert!(answer.headers().keys().all(|name| !name.as_str().starts_with("access-control")));
    assert_eq!(site.request("OPTIONS", "/parties/none/a", &asking, "").await.status(), 404);

    // An OPTIONS that asks nothing of this kind is a request as any other.
    assert_eq!(site.request("OPTIONS", "/parties/main/a", &[], "").await.status(), 500);
    assert_eq!(made.load(Ordering::Relaxed), 0);
}
