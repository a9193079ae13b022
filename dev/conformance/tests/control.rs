//! The suite itself under test: servers that are wrong have to fail it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{SinkExt, StreamExt};
use partykit::{
    Admit, Alarm, Close, Connection, HandlerError, Lobby, Message, Options, Request, Response,
    Result, Room, Run, Server as Party, TaskResult,
};
use partykit_conformance::{
    Probe, Server, serve,
    suite::{CASES, Case, Control, Outcome, Report, Target, Verdict, run_cases},
};
use tokio::net::TcpListener;

/// A server that only echoes has none of it: what passes is about echoing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_echo_server_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if (message.is_text() || message.is_binary())
                        && socket.send(message).await.is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    // Most cases fail because nothing comes: no need to wait for long.
    let target = Target::with_control(&base, Arc::new(Sleepless));
    let report = run_cases(&target.with_deadline(Duration::from_secs(1)), CASES).await;
    serving.abort();
    assert!(!report.is_passed());
    assert!(report.skipped().all(|name| name.starts_with("waking::")), "{report}");
    assert_eq!(report.ran() + report.skipped().count(), CASES.len());
    let passed: Vec<_> = report.passed().collect();
    let echoing =
        ["order_survives_sleep", "pings_are_answered", "text_stays_text_and_binary_binary"];
    assert_eq!(passed, echoing.map(|name| format!("frames::{name}")));
}

/// A party that counts in a field, where the probe counts in the connection's state, is found out by
/// the cases that sleep.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uncached_counter_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let parties = Server::parties_with::<Forgetful<true>, Forgetful<false>>();
    let server = serve(parties, listener).expect("an address");
    let report = run_cases(&Target::new(&server.url()), CASES).await;
    let failed: Vec<_> = report.failed().collect();
    // It is the counter that is found, and nothing else.
    let counting = [
        "failing::a_panic_renews_the_instance",
        "modes::differ_in_nothing",
        "rooms::state_survives_sleep",
    ];
    for name in counting {
        assert!(failed.contains(&name), "{name} passes\n{report}");
    }
    assert_eq!(failed.len(), counting.len(), "{report}");
}

/// A case that cannot run is not one that passes.
#[tokio::test]
async fn a_target_that_is_not_there_fails() {
    const ONE: &[Case] = &[Case { name: "one", run: |target| Box::pin(ask(target)) }];
    async fn ask(target: &Target) -> Verdict {
        target.send(partykit::http::Method::GET, "/", "").await;
        Verdict::Passed
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let report = run_cases(&Target::with_control(&base, Arc::new(Sleepless)), ONE).await;
    assert!(!report.is_passed(), "{report}");
}

/// Control of a server that has no rooms.
struct Sleepless;

#[async_trait]
impl Control for Sleepless {
    async fn put_to_sleep(&self, _: &str, _: &str) {}
}

/// A probe whose answer to `count` lives in a field.
#[derive(Default)]
struct Forgetful<const HIBERNATES: bool> {
    probe: Probe<HIBERNATES>,
    said: u32,
}

impl<const HIBERNATES: bool> Party for Forgetful<HIBERNATES> {
    fn options() -> Options {
        Probe::<HIBERNATES>::options()
    }

    async fn on_before_connect(request: Request, lobby: &Lobby) -> Result<Admit> {
        Probe::<HIBERNATES>::on_before_connect(request, lobby).await
    }

    async fn on_before_request(request: Request, lobby: &Lobby) -> Result<Admit> {
        Probe::<HIBERNATES>::on_before_request(request, lobby).await
    }

    fn connection_tags(&mut self, room: &Room, id: &str, request: &Request) -> Result<Vec<String>> {
        self.probe.connection_tags(room, id, request)
    }

    async fn on_start(&mut self, room: &Room) -> Result {
        self.probe.on_start(room).await
    }

    async fn on_connect(&mut self, room: &Room, it: &Connection, request: &Request) -> Result {
        self.probe.on_connect(room, it, request).await
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        if message.as_text() == Some(r#"{"do":"count"}"#) {
            self.said += 1;
            sender.send(format!(r#"{{"re":"count","said":{}}}"#, self.said));
            return Ok(());
        }
        self.probe.on_message(room, sender, message).await
    }

    async fn on_close(&mut self, room: &Room, it: &Connection, close: Close) -> Result {
        self.probe.on_close(room, it, close).await
    }

    async fn on_error(&mut self, room: &Room, error: HandlerError) -> Result {
        self.probe.on_error(room, error).await
    }

    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        self.probe.on_request(room, request).await
    }

    async fn on_alarm(&mut self, room: &Room, alarm: Alarm) -> Result {
        self.probe.on_alarm(room, alarm).await
    }

    async fn on_schedule(&mut self, room: &Room, run: Run) -> Result {
        self.probe.on_schedule(room, run).await
    }

    async fn on_task(&mut self, room: &Room, result: TaskResult) -> Result {
        self.probe.on_task(room, result).await
    }
}

/// Of a report that nobody has to run a server for.
const TWO: &[Case] = &[
    Case { name: "one", run: |_| Box::pin(async { Verdict::Passed }) },
    Case { name: "two", run: |_| Box::pin(async { Verdict::Passed }) },
];

fn outcome(name: &'static str, failure: Option<&str>) -> Outcome {
    let verdict = failure.map_or(Verdict::Passed, |failure| Verdict::Failed(failure.into()));
    Outcome { name, verdict }
}

#[test]
fn a_report_has_to_have_all_of_them_run_and_passed() {
    let both = vec![outcome("one", None), outcome("two", None)];
    assert!(Report::new(TWO, both).is_passed());
    let one = Report::new(TWO, vec![outcome("two", None)]);
    assert!(!one.is_passed());
    assert_eq!(one.missing(), ["one"]);
    let failed = vec![outcome("one", None), outcome("two", Some("no"))];
    assert!(!Report::new(TWO, failed).is_passed());
    assert!(!Report::new(&[], Vec::new()).is_passed(), "nothing ran");
    let skipped = Outcome { name: "two", verdict: Verdict::Skipped("stats") };
    let skipped = Report::new(TWO, vec![outcome("one", None), skipped]);
    assert!(!skipped.is_passed());
    assert_eq!((skipped.ran(), skipped.skipped().collect()), (1, vec!["two"]));
}

#[test]
fn a_report_reads_as_a_list() {
    let report = Report::new(TWO, vec![outcome("two", Some("no"))]);
    let text = "FAILED  two: no\nMISSING one\n1 of 2 cases ran, 1 failed\n";
    assert_eq!(report.to_string(), text);
}
