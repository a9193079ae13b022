//! The log as `docs/src/observability.md` has it: what comes, when, and with which fields.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use partykit_core::{Connection, Message, Options, Result, Room, Server};
use partykit_runtime_tokio::Runtime;
use tokio::{net::TcpListener, time::timeout};
use tokio_tungstenite::connect_async;
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Chat;

impl Server for Chat {
    fn options() -> Options {
        Options::new().hibernate(true).hibernate_after(Duration::from_secs(3600))
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        if message.as_text() == Some("the secret payload") {
            room.storage().put("never", &1)?;
            return Err("on purpose".into());
        }
        sender.send(message);
        Ok(())
    }
}

/// Events as they come: each with its level, and its own fields and those of its spans, innermost last.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Event>>>);

#[derive(Clone, Debug)]
struct Event {
    level: tracing::Level,
    fields: Fields,
    spans: Vec<&'static str>,
}

#[derive(Clone, Debug, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        id: &tracing::Id,
        context: Context<'_, S>,
    ) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        if !event.metadata().target().starts_with("partykit") {
            return;
        }
        let (mut fields, mut spans) = (Fields::default(), Vec::new());
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            spans.push(span.name());
            if let Some(known) = span.extensions().get::<Fields>() {
                fields.0.extend(known.0.clone());
            }
        }
        event.record(&mut fields);
        let level = *event.metadata().level();
        self.0.lock().unwrap().push(Event { level, fields, spans });
    }
}

impl Log {
    /// The last event with this message.
    fn last(&self, message: &str) -> Option<Event> {
        let log = self.0.lock().unwrap();
        log.iter().rev().find(|event| event.field("message") == message).cloned()
    }

    fn expect(&self, message: &str) -> Event {
        self.last(message).unwrap_or_else(|| panic!("no {message:?} in {:#?}", self.0))
    }

    /// The same, when it is there.
    async fn wait_for(&self, message: &str) -> Event {
        within(async {
            while self.last(message).is_none() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        self.expect(message)
    }

    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

impl Event {
    fn field(&self, name: &str) -> &str {
        self.fields.0.get(name).map_or("", String::as_str)
    }

    fn is_of(&self, span: &str) {
        assert_eq!(self.spans.last(), Some(&span), "{self:?}");
        assert_eq!((self.field("party"), self.field("room")), ("chat", "the lobby"), "{self:?}");
    }
}

#[tokio::test]
async fn the_log_tells_what_happens_when_it_happens() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
    let runtime = Runtime::builder()
        .party::<Chat>("chat")
        .in_memory()
        .shutdown_spread(Duration::ZERO)
        .build()
        .unwrap();
    let handle = runtime.handle();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { runtime.serve_on(listener).await });

    let url = format!("ws://{addr}/parties/chat/the%20lobby?_pk=ada&token=s3cret");
    let (mut ada, _) = within(connect_async(&url)).await.unwrap();
    assert_eq!(log.expect(&format!("listening on http://{addr}")).level, tracing::Level::INFO);
    let woke = log.expect("the room wakes");
    woke.is_of("room");
    assert_eq!((woke.field("cause"), woke.field("reason")), ("connect", "First"));
    assert_eq!(woke.level, tracing::Level::DEBUG);

    // Every line is there when the sleep is: nothing waits for the next event of the room.
    for cause in ["message", "request"] {
        log.clear();
        within(handle.evict("chat", "the lobby")).await.unwrap();
        let slept = log.wait_for("the room sleeps").await;
        slept.is_of("room");
        assert!(!slept.field("awake").is_empty());
        assert!(log.last("the room wakes").is_none());
        if cause == "message" {
            ada.send("hello".into()).await.unwrap();
            assert_eq!(within(ada.next()).await.unwrap().unwrap(), "hello".into());
        } else {
            let request = partykit_core::Request::default();
            within(handle.request("chat", "the lobby", request)).await.unwrap();
        }
        let woke = log.expect("the room wakes");
        assert_eq!((woke.field("cause"), woke.field("reason")), (cause, "Wake"));
    }

    log.clear();
    ada.send("the secret payload".into()).await.unwrap();
    log.wait_for("the room is reset").await.is_of("room");
    assert_eq!(log.wait_for("the room wakes").await.field("cause"), "error");
    let failed = log.expect("on_message failed");
    failed.is_of("room");
    assert_eq!(failed.field("error"), "on purpose");
    assert_eq!(failed.level, tracing::Level::ERROR);
    assert_eq!((failed.field("handler"), failed.field("connection")), ("on_message", "ada"));
    assert_eq!(failed.field("error_id").len(), 16);

    within(ada.close(None)).await.unwrap();
    while let Some(Ok(_)) = within(ada.next()).await {}
    drop(ada);
    let ended = log.wait_for("a connection ended").await;
    assert_eq!((ended.field("party"), ended.field("room")), ("chat", "the lobby"));
    assert_eq!(ended.field("connection"), "ada");
    assert_eq!((ended.field("code"), ended.field("clean")), ("1005", "true"));
    assert_eq!(ended.field("slow"), "false");

    within(handle.shutdown()).await;
    within(serving).await.unwrap();
    assert_eq!(log.expect("shutting down").level, tracing::Level::INFO);
    for event in log.0.lock().unwrap().iter() {
        let text = format!("{event:?}");
        assert!(!text.contains("secret") && !text.contains("s3cret"), "{text}");
    }
}

/// Ends with the future, or fails the test.
async fn within<F: Future>(future: F) -> F::Output {
    timeout(NEVER, future).await.expect("it never happens")
}
