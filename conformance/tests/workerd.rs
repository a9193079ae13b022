//! The Workers runtime against the suite, in Cloudflare's own `workerd`.

use std::sync::Arc;

use async_trait::async_trait;
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
    let project = Project::open(env!("CARGO_MANIFEST_DIR")).expect("a project");
    let project = project
        .party(PROBE, "Probes")
        .party(IN_MEMORY, "Memories")
        .party(STARTER, "Starter")
        .party(SMALL, "Small");
    Arc::new(Workerd::start(&project).expect("`cargo xtask workerd` builds it first"))
}

/// A panic takes the wasm instance, and with it the memory of all rooms: what the book says of it, in
/// `docs/src/workers.md`. Without `panic=unwind`, cases that panic cannot pass.
const PANICKING: &[&str] = &[
    "calls::failures_are_told",
    "connecting::a_failed_on_connect_was_never_here",
    "failing::a_panic_renews_the_instance",
    "failing::nothing_is_left_of_a_panic_after_a_write",
    "failing::others_are_not_touched",
    "failing::requests_fail_with_500",
    "modes::differ_in_nothing",
];

/// `workerd` keeps the TCP connection of a client that has said nothing until the room leaves memory. The
/// Close itself comes at once.
const LINGERING: &str = "connecting::a_close_comes_at_once";

/// What needs stats: an object that is asked for them wakes.
const ASKING: &str = "waking::";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn all_cases_but_those_of_the_list() {
    let workerd = start();
    let target = Target::with_control(&workerd.url(), Arc::new(Evict(workerd.clone())));
    let differs =
        |name: &str| PANICKING.contains(&name) || name == LINGERING || name.starts_with(ASKING);
    let cases = CASES.iter().filter(|case| !differs(case.name));
    let cases: Vec<Case> = cases.map(|case| Case { name: case.name, run: case.run }).collect();
    let report = run_cases(&target, cases.leak()).await;
    assert!(report.is_passed(), "{report}\n{}", workerd.log().lines().join("\n"));
    assert_eq!(report.ran(), 60);
}
