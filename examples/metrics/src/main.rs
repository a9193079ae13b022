//! Rooms whose numbers Prometheus can fetch: `cargo run -p metrics-page`, then look at `/metrics`.

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use partykit::{
    Connection, Message, Options, Request, Response, ResponseExt, Result, Room, Runtime, Server,
    http::StatusCode,
};

/// From a tenth of a millisecond to the 30 s that a handler may take.
const SECONDS: &[f64] = &[0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 30.0];

#[derive(Default)]
struct Chat;

impl Server for Chat {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_message(&mut self, room: &Room, _: &Connection, message: Message) -> Result {
        room.broadcast(message).send();
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result {
    // Installed before the runtime is built, which asks the recorder for its counters only once.
    let prometheus = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .install_recorder()?;
    // Without this, what was measured stays in memory as long as Prometheus does not ask.
    let upkeep = prometheus.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            upkeep.run_upkeep();
        }
    });
    let page = move |request: Request| {
        let response = match request.uri().path() {
            "/metrics" => Response::text(prometheus.render()),
            _ => Response::empty(StatusCode::NOT_FOUND),
        };
        async { response }
    };
    Runtime::builder()
        .party::<Chat>("chat")
        .in_memory()
        .fallback(page)
        .serve("127.0.0.1:1999")
        .await
}
