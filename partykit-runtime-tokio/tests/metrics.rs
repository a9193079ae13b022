//! What the recorder of the metrics facade is told.
#![cfg(feature = "metrics")]

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use metrics_exporter_prometheus::PrometheusBuilder;
use partykit_core::{Connection, Message, Options, Request, Result, Room, Server};
use partykit_runtime_tokio::{Runtime, metrics};
use tokio::{net::TcpListener, time::timeout};
use tokio_tungstenite::{connect_async, tungstenite};

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Chat;

impl Server for Chat {
    fn options() -> Options {
        Options::new().hibernate(true).hibernate_after(Duration::from_secs(3600)).max_connections(2)
    }

    async fn on_connect(&mut self, room: &Room, _: &Connection, _: &Request) -> Result {
        room.storage().put("count", &room.count())?;
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, _: &Connection, message: Message) -> Result {
        if message.as_text() == Some("fail") {
            room.storage().put("never", &1)?;
            return Err("on purpose".into());
        }
        room.broadcast(message).send();
        Ok(())
    }
}

/// The value of a metric with these labels, as Prometheus gets it.
fn value(page: &str, name: &str, labels: &str) -> f64 {
    let start = format!("{name}{{party=\"chat\"{labels}}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&*start));
    line.unwrap_or_else(|| panic!("no {start} in\n{page}")).parse().unwrap()
}

#[tokio::test]
async fn what_happens_is_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let prometheus = recorder.handle();
    let _guard = ::metrics::set_default_local_recorder(&recorder);
    let runtime = Runtime::builder()
        .party::<Chat>("chat")
        .in_memory()
        .shutdown_spread(Duration::ZERO)
        .build()
        .unwrap();
    let handle = runtime.handle();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/parties/chat/lobby", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { runtime.serve_on(listener).await });

    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(within(connect_async(&url)).await.unwrap().0);
    }
    let full = within(connect_async(&url)).await.unwrap_err();
    assert!(matches!(full, tungstenite::Error::Http(answer) if answer.status() == 503));
    for text in ["hello", "again"] {
        clients[0].send(text.into()).await.unwrap();
        for client in &mut clients {
            assert_eq!(within(client.next()).await.unwrap().unwrap(), text.into());
        }
        within(handle.evict("chat", "lobby")).await.unwrap();
    }
    clients[0].send("fail".into()).await.unwrap();
    let reset = || handle.room_stats("chat", "lobby").unwrap().account.resets == 1;
    eventually(reset).await;
    within(handle.evict("chat", "lobby")).await.unwrap();
    // The room's driver tells it when it gets round to it.
    eventually(|| value(&prometheus.render(), metrics::ROOMS_AWAKE, "") == 0.0).await;

    let page = prometheus.render();
    let of = |name: &str, labels: &str| value(&page, name, labels);
    let count = |name: &str, labels: &str| value(&page, &format!("{name}_count"), labels);
    assert_eq!(of(metrics::CONNECTIONS, ""), 2.0);
    assert_eq!(of(metrics::ROOMS, ""), 1.0);
    assert_eq!(of(metrics::ROOMS_AWAKE, ""), 0.0);
    assert_eq!(of(metrics::WAKES, ",cause=\"connect\""), 1.0);
    assert_eq!(of(metrics::WAKES, ",cause=\"message\""), 2.0);
    assert_eq!(of(metrics::WAKES, ",cause=\"error\""), 1.0);
    assert_eq!(of(metrics::SLEEPS, ""), 3.0);
    assert_eq!(of(metrics::RESETS, ""), 1.0);
    assert_eq!(count(metrics::AWAKE, ""), 4.0);
    assert_eq!(of(metrics::MESSAGES_RECEIVED, ""), 3.0);
    assert_eq!(of(metrics::BYTES_RECEIVED, ""), 14.0);
    assert_eq!(of(metrics::MESSAGES_SENT, ""), 4.0);
    assert_eq!(of(metrics::BYTES_SENT, ""), 20.0);
    assert_eq!(of(metrics::BROADCASTS, ""), 2.0);
    assert_eq!(of(metrics::BROADCAST_DELIVERIES, ""), 4.0);
    assert_eq!(count(metrics::HANDLER, ",handler=\"on_message\""), 3.0);
    assert_eq!(count(metrics::HANDLER, ",handler=\"on_start\""), 4.0);
    assert_eq!(of(metrics::HANDLER_FAILURES, ",handler=\"on_message\""), 1.0);
    assert_eq!(count(metrics::COMMIT, ""), 2.0);
    assert_eq!(of(metrics::SLOW_CLIENTS, ""), 0.0);
    assert_eq!(of(metrics::HANDSHAKES_REFUSED, ",status=\"503\""), 1.0);
    assert_eq!(of(metrics::EVENTS_REFUSED, ",reason=\"full\""), 1.0);
    assert!(!page.contains("lobby"), "no label per room");
    let series = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert!(series.into_iter().all(|line| line.contains("{party=\"chat\"")), "one party:\n{page}");

    drop(clients);
    within(handle.shutdown()).await;
    within(serving).await.unwrap();
    for name in [metrics::CONNECTIONS, metrics::ROOMS, metrics::ROOMS_AWAKE] {
        assert_eq!(value(&prometheus.render(), name, ""), 0.0, "{name}");
    }
}

#[tokio::test]
async fn every_name_has_a_meaning_and_vacant_rooms_are_not_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let prometheus = recorder.handle();
    let _guard = ::metrics::set_default_local_recorder(&recorder);
    let runtime = Runtime::builder()
        .party_with_options("chat", Chat::options().hibernate_after(Duration::ZERO), |_| Chat)
        .in_memory()
        .build()
        .unwrap();
    let handle = runtime.handle();
    for room in ["a", "b"] {
        within(handle.request("chat", room, Request::default())).await.unwrap();
    }
    eventually(|| handle.stats().parties["chat"].rooms == 0).await;
    assert_eq!(handle.stats().parties["chat"].account.sleeps, 2, "forgotten rooms count");
    let page = prometheus.render();
    assert_eq!(value(&page, metrics::ROOMS, ""), 0.0);
    let of_kind = |kind: &str| {
        let start = format!("# {kind} ");
        let lines = page.lines().filter_map(|line| line.strip_prefix(&*start).map(str::to_owned));
        let names = lines.map(|line| line.split(' ').next().unwrap_or_default().to_owned());
        names.collect::<Vec<_>>()
    };
    let (names, meanings) = (of_kind("TYPE"), of_kind("HELP"));
    assert!(names.len() > 10 && names == meanings, "{names:?} {meanings:?}");
    assert!(names.iter().all(|name| name.starts_with("partykit_")));
}

/// Ends with the future, or fails the test.
async fn within<F: Future>(future: F) -> F::Output {
    timeout(NEVER, future).await.expect("it never happens")
}

/// Waits until it holds.
async fn eventually(mut holds: impl FnMut() -> bool) {
    within(async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
