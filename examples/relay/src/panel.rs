//! The page at `/`, and what it asks the runtime: outside of `/parties`, so that looking wakes nobody.

use partykit::{
    AwakeReason, Body, Request, RequestExt, Response, RoomPhase, RoomStats,
    http::{Method, StatusCode, header::CONTENT_TYPE},
    runtime::tokio::Handle,
};
use serde_json::{Value, json};

use crate::page;

/// Answers what is for no room.
pub(crate) async fn answer(request: Request) -> Response {
    let room = request.query("room").unwrap_or_else(|| "lobby".to_owned());
    let Some(handle) = request.extensions().get::<Handle>() else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "no runtime");
    };
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => respond(StatusCode::OK, "text/html; charset=utf-8", page::html()),
        (&Method::GET, "/stats") => {
            let stats = handle.room_stats("main", &room);
            respond(StatusCode::OK, "application/json", describe(stats).to_string())
        }
        (&Method::POST, "/sleep") => match handle.evict("main", &room).await {
            Ok(()) => respond(StatusCode::NO_CONTENT, "text/plain", ""),
            Err(reasons) => text(StatusCode::CONFLICT, lines(&reasons).join("\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "not found"),
    }
}

/// Writes the log to standard output, the address of the page first. Its level is `info`, unless
/// `RELAY_LOG` says another.
pub(crate) fn init_log() {
    let level = std::env::var("RELAY_LOG").ok().and_then(|level| level.parse().ok());
    let level = level.unwrap_or(tracing_subscriber::filter::LevelFilter::INFO);
    tracing_subscriber::fmt().with_target(false).without_time().with_max_level(level).init();
}

/// A room's stats, as the page wants them.
fn describe(stats: Option<RoomStats>) -> Value {
    let Some(stats) = stats else {
        return json!({
            "phase": "absent", "connections": 0, "life_ms": 0, "resident_ms": 0, "active_ms": 0,
            "starts": 0, "sleeps": 0, "last_wake": null, "awake_because": [],
        });
    };
    let account = &stats.account;
    let last_wake = account.last_wake.map(|(cause, at)| {
        json!({ "cause": cause.to_string(), "ago_ms": (account.life - at).as_millis() as u64 })
    });
    let mut because = lines(&stats.reasons);
    if let Some(left) = stats.sleeps_in {
        because.push(format!("idle timer: sleeps in {:.1} s", left.as_secs_f64()));
    }
    json!({
        "phase": match stats.phase {
            RoomPhase::Asleep => "asleep",
            RoomPhase::Waking => "waking",
            RoomPhase::Awake => "awake",
        },
        "connections": stats.connections,
        "life_ms": account.life.as_millis() as u64,
        "resident_ms": account.resident.as_millis() as u64,
        "active_ms": account.active.as_secs_f64() * 1e3,
        "starts": account.wakes(),
        "sleeps": account.sleeps,
        "last_wake": last_wake,
        "awake_because": because,
    })
}

fn lines(reasons: &[AwakeReason]) -> Vec<String> {
    reasons.iter().map(ToString::to_string).collect()
}

fn text(status: StatusCode, body: impl Into<String>) -> Response {
    respond(status, "text/plain; charset=utf-8", body.into())
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, partykit::http::HeaderValue::from_static(content_type));
    response
}
