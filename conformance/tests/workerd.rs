//! The Workers runtime against the suite, in Cloudflare's own `workerd`.

use std::sync::Arc;

use async_trait::async_trait;
use partykit::http::Method;
use partykit_conformance::{
    IN_MEMORY, PROBE, SMALL, STARTER,
    suite::{CASES, Case, Control, Target, run_cases},
};
use partykit_workerd::{Project, Workerd};

struct Evict(Arc<Workerd>);

#[async_trait]
impl Control for Evict {
    async fn put_to_sleep(&self, party: &str, room: &str) {
        let (workerd, party, room) = (self.0.clone(), party.to_owned(), room.to_owned());
        let evicted = tokio::task::spawn_blocking(move || workerd.evict(&party, &room));
        evicted.await.expect("an answer").expect("a room that sleeps");
    }
}

fn start() -> Arc<Workerd> {
    Arc::new(Workerd::start(&project()).expect("`cargo xtask workerd` builds it first"))
}

fn project() -> Project {
    Project::open(env!("CARGO_MANIFEST_DIR"))
        .expect("a project")
        .party(PROBE, "Probes")
        .party(IN_MEMORY, "Memories")
        .party(STARTER, "Starter")
        .party(SMALL, "Small")
        .party("desk", "Desk")
}

/// A panic takes the wasm instance, and with it the memory of all rooms: what the book says of it, in
/// `docs/src/workers.md`. Without `panic=unwind`, cases that panic cannot pass.
const PANICKING: &[&str] = &[
    "alarms::a_failed_handler_sets_none",
    "calls::failures_are_told",
    "connecting::a_failed_on_connect_was_never_here",
    "failing::a_panic_renews_the_instance",
    "failing::nothing_is_left_of_a_panic_after_a_write",
    "failing::others_are_not_touched",
    "failing::requests_fail_with_500",
    "modes::differ_in_nothing",
    "storage::a_failed_handler_leaves_nothing",
];

/// `workerd` keeps the TCP connection of a client that has said nothing until the room leaves memory. The
/// Close itself comes at once.
const LINGERING: &str = "connecting::a_close_comes_at_once";

/// What needs stats: an object that is asked for them wakes.
const ASKING: &str = "waking::";

fn target(workerd: &Arc<Workerd>) -> Target {
    Target::with_control(&workerd.url(), Arc::new(Evict(workerd.clone())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn all_cases_but_those_of_the_list() {
    let differs = |name: &str| PANICKING.contains(&name) || is_elsewhere(name);
    assert_eq!(check(&start(), |name| !differs(name)).await, 81);
}

/// Where a panic is the matter of the one who caused it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd and nightly: cargo xtask workers unwind"]
async fn unwinding_leaves_all_cases_but_those_of_the_platform() {
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/build-unwind");
    let workerd = Workerd::start(&project().build(build));
    let workerd = Arc::new(workerd.expect("`cargo xtask workers unwind` builds it first"));
    assert_eq!(check(&workerd, |name| !is_elsewhere(name)).await, 90);
}

/// Whether a case is about what the platform does otherwise.
fn is_elsewhere(name: &str) -> bool {
    name == LINGERING || name.starts_with(ASKING)
}

/// Runs some of the cases, and returns how many passed: all of them.
async fn check(workerd: &Arc<Workerd>, wanted: impl Fn(&str) -> bool) -> usize {
    let cases = CASES.iter().filter(|case| wanted(case.name));
    let cases: Vec<Case> = cases.map(|case| Case { name: case.name, run: case.run }).collect();
    let report = run_cases(&target(workerd), cases.leak()).await;
    assert!(report.is_passed(), "{report}\n{}", workerd.log().lines().join("\n"));
    report.ran()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn an_alarm_rings_whether_the_room_sleeps_or_not() {
    let workerd = start();
    let target = target(&workerd);
    let room = target.room_of("desk", "alarm");
    let mut client = room.connect("ada").await;
    client.say("alarm").await;
    assert_eq!(client.next_text().await, "alarm, retries: 0, First");
    client.say("alarm").await;
    target.control().put_to_sleep("desk", room.id()).await;
    let rung = client.next_text().await;
    assert!(rung.starts_with("alarm, retries: 0"), "{rung}");
    client.say("rows").await;
    assert_eq!(client.next_text().await, "[], an alarm: false");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn an_alarm_that_fails_rings_again() {
    let workerd = start();
    let target = target(&workerd);
    let room = target.room_of("desk", "failing-alarm");
    let mut client = room.connect("ada").await;
    client.say("failing alarm").await;
    // Asleep meanwhile: only the platform knows of it.
    target.control().put_to_sleep("desk", room.id()).await;
    let rung = client.next_text().await;
    assert!(rung.starts_with("alarm, retries: 1"), "{rung}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn nothing_is_left_of_a_handler_that_fails() {
    let workerd = start();
    let target = target(&workerd);
    let room = target.room_of("desk", "atom");
    let mut client = room.connect("ada").await;
    client.say("write and fail").await;
    client.say("rows").await;
    assert_eq!(client.next_text().await, "[], an alarm: false", "what followed the write is gone");
    target.control().put_to_sleep("desk", room.id()).await;
    client.say("rows").await;
    assert_eq!(client.next_text().await, "[], an alarm: false");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn bodies_stream_and_the_fallback_knows_the_bindings() {
    let workerd = start();
    let target = target(&workerd);
    let room = target.room_of("desk", "stream");
    let answer = target.send(Method::GET, &room.path(""), "").await;
    assert_eq!((answer.status(), &*answer.text()), (200, "abc"));
    assert_eq!(answer.header("x-partykit-streams"), None, "that is between our own parts");
    let answer = target.send(Method::GET, "/elsewhere", "").await;
    assert_eq!((answer.status(), &*answer.text()), (418, "hello"));
}
