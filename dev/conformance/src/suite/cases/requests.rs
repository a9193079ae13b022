use partykit::http::{Method, Request};
use serde_json::json;

use crate::{
    SMALL,
    suite::{Mode, Target},
};

pub(super) async fn default_is_404(target: &Target) {
    let room = target.room_of(SMALL, "default");
    assert_eq!(room.get("").await.status(), 404);
    assert_eq!(room.get("/more").await.status(), 404);
}

pub(super) async fn the_answer_is_the_rooms(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "answer");
        for body in ["", "Grüße", &"long ".repeat(100_000)] {
            let request = Request::put(room.path("/echo")).header("content-type", "text/x-probe");
            let request = request.body(body.to_owned().into()).expect("a request");
            let answer = target.send_request(request).await;
            assert_eq!(answer.status(), 202);
            assert_eq!(answer.header("content-type"), Some("text/x-probe"));
            assert!(answer.text() == body, "{} bytes", body.len());
            room.sleep().await;
        }
    }
}

pub(super) async fn the_room_sees_the_request(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "request");
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let path = room.path("/some/path?and=a+query");
            let request = Request::builder().method(method.clone()).uri(path).header("x-mine", "1");
            let request = request.body("a body".into()).expect("a request");
            let seen = target.send_request(request).await.json();
            assert_eq!(seen["method"], method.as_str());
            assert_eq!(seen["path"], room.path("/some/path"));
            assert_eq!((&seen["query"], &seen["body"]), (&json!("and=a+query"), &json!("a body")));
            let headers = seen["headers"].as_array().expect("headers");
            assert!(headers.contains(&json!(["x-mine", "1"])), "{headers:?}");
        }
    }
}
