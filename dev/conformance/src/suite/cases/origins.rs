use partykit::http::{Method, Request};

use crate::{
    ANNEX, ANNEX_PAGE,
    suite::{Answer, Mode, Room, Target},
};

async fn ask(target: &Target, room: &Room<'_>, method: Method, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(room.path(""));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    target.send_request(request.body("".into()).expect("a request")).await
}

pub(super) async fn preflight_is_answered(target: &Target) {
    let room = target.room(Mode::Hibernating, "preflight");
    let wanted = [
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    let own = [&[("origin", target.base())], &wanted[..]].concat();
    let answer = ask(target, &room, Method::OPTIONS, &own).await;
    assert!(matches!(answer.status(), 200 | 204), "{answer:?}");
    let allowed = answer.header("access-control-allow-origin");
    assert!(allowed == Some(target.base()) || allowed == Some("*"), "{answer:?}");
    let has =
        |name, what| answer.header(name).is_some_and(|value| value.contains(what) || value == "*");
    assert!(has("access-control-allow-methods", "POST"), "{answer:?}");
    assert!(has("access-control-allow-headers", "content-type"), "{answer:?}");

    let foreign = [&[("origin", "https://evil.example")], &wanted[..]].concat();
    let answer = ask(target, &room, Method::OPTIONS, &foreign).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(room.stats().await.map_or(0, |stats| stats.wakes), 0, "no room has seen it");
}

pub(super) async fn a_page_of_this_host_is_let_in(target: &Target) {
    let room = target.room(Mode::Hibernating, "own-origin");
    let own = [("origin", target.base())];
    let answer = ask(target, &room, Method::GET, &own).await;
    let allowed = answer.header("access-control-allow-origin");
    assert!(allowed == Some(target.base()) || allowed == Some("*"), "{answer:?}");
    let mut client = room.try_connect("?_pk=ada", &own).await.expect("a 101");
    client.has_seen_all().await;
}

pub(super) async fn a_foreign_page_is_refused(target: &Target) {
    let room = target.room(Mode::Hibernating, "foreign-origin");
    for origin in ["https://evil.example", "null", "http://127.0.0.1.evil.example"] {
        let refused = room.try_connect("?_pk=ada", &[("origin", origin)]).await;
        assert_eq!(refused.expect_err("no 101").status(), 403, "{origin}");
        let answer = ask(target, &room, Method::GET, &[("origin", origin)]).await;
        assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}");
    }
}

pub(super) async fn a_party_can_have_pages_of_its_own(target: &Target) {
    let annex = target.room_of(ANNEX, "own-pages");
    let common = target.room(Mode::Hibernating, "no-annex");
    let page = [("origin", ANNEX_PAGE)];
    annex.try_connect("?_pk=ada", &page).await.expect("a 101");
    let answer = ask(target, &annex, Method::GET, &page).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some(ANNEX_PAGE));
    let refused = common.try_connect("?_pk=ada", &page).await;
    assert_eq!(refused.expect_err("no 101").status(), 403);
    let answer = ask(target, &common, Method::GET, &page).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let own = [("origin", target.base())];
    annex.try_connect("?_pk=bob", &own).await.expect("a 101 for a page of this host");
    let foreign = annex.try_connect("?_pk=eve", &[("origin", "https://evil.example")]).await;
    assert_eq!(foreign.expect_err("no 101").status(), 403);
}
