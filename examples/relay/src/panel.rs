//! The page at `/`, and its questions to the runtime. They are not below `/parties`, so they wake no room.

use partykit::{
    Request, RequestExt, Response, ResponseExt,
    http::{HeaderName, HeaderValue, Method, StatusCode},
    server::Handle,
};

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
            let mut stats = Response::json(&handle.room_stats("main", &room)).unwrap_or_default();
            stats.headers_mut().extend([(SERVER, server())]);
            stats
        }
        (&Method::POST, "/sleep") => match handle.evict("main", &room).await {
            Ok(()) => Response::empty(StatusCode::NO_CONTENT),
            Err(reasons) => {
                let reasons: Vec<String> = reasons.into_iter().map(Into::into).collect();
                Response::text(reasons.join("\n")).with_status(StatusCode::CONFLICT)
            }
        },
        _ => Response::text("not found").with_status(StatusCode::NOT_FOUND),
    }
}

/// Says who has answered. A deploy changes that, and nothing else that the page sees.
const SERVER: HeaderName = HeaderName::from_static("relay-server");

fn server() -> HeaderValue {
    let version = format!("{}, process {}", env!("CARGO_PKG_VERSION"), std::process::id());
    HeaderValue::try_from(version).expect("digits and points")
}

/// Writes the log to standard output, the address of the page first. Its level is `info`, unless
/// `RELAY_LOG` says another.
pub(crate) fn init_log() {
    let level = std::env::var("RELAY_LOG").ok().and_then(|level| level.parse().ok());
    let level = level.unwrap_or(tracing_subscriber::filter::LevelFilter::INFO);
    tracing_subscriber::fmt().with_target(false).without_time().with_max_level(level).init();
}
