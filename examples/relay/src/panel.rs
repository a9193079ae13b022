//! The page at `/`, and its questions to the runtime. They are not below `/parties`, so they wake no room.

use partykit::{
    Request, RequestExt, Response, ResponseExt,
    http::{Method, StatusCode},
    server::Handle,
    stats::{AwakeReason, RoomPhase, RoomStats},
};
use serde_json::{Value, json};

use crate::page;

/// Answers requests that are not for a room.
pub(crate) async fn answer(request: Request) -> Response {
    let room = request.query("room").unwrap_or_else(|| "lobby".to_owned());
    let Some(handle) = request.extensions().get::<Handle>() else {
        return Response::text("no runtime").with_status(StatusCode::INTERNAL_SERVER_ERROR);
    };
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => Response::html(page::html()),
        (&Method::GET, "/stats") => {
            let stats = handle.room_stats("main", &room);
            Response::json(&describe(stats)).unwrap_or_default()
        }
        (&Method::POST, "/sleep") => match handle.evict("main", &room).await {
            Ok(()) => Response::empty(StatusCode::NO_CONTENT),
            Err(reasons) => {
                Response::text(lines(&reasons).join("\n")).with_status(StatusCode::CONFLICT)
            }
        },
        _ => Response::text("not found").with_status(StatusCode::NOT_FOUND),
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
