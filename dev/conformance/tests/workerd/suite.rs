//! The suite.

use std::sync::Arc;

use partykit_conformance::suite::{CASES, Case, run_cases};
use partykit_workerd::Workerd;

use crate::support::{project, start, target};

/// A panic takes the wasm instance, and with it the memory of all rooms: what the book says of it, in
/// `docs/src/workers.md`. Without `panic=unwind`, cases that panic cannot pass.
const PANICKING: &[&str] = &[
    "alarms::a_failed_handler_sets_none",
    "calls::failures_are_told",
    "failing::a_panic_renews_the_instance",
    "failing::nothing_is_left_of_a_panic_after_a_write",
    "failing::others_are_not_touched",
    "failing::requests_fail_with_500",
    "modes::differ_in_nothing",
    "storage::a_failed_handler_leaves_nothing",
];

/// What the platform does otherwise, however it is built.
const ELSEWHERE: &[&str] = &[
    // `workerd` keeps the TCP connection of a client that has said nothing until the room leaves memory.
    // The Close itself comes at once. (One of them panics, too.)
    "connecting::a_close_comes_at_once",
    "connecting::a_failed_on_connect_was_never_here",
    // There is no outside: only the room sends to its sockets.
    "waking::a_broadcast_from_outside_does_not",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn all_cases_but_those_of_the_list() {
    check(&start(), &[PANICKING, ELSEWHERE].concat()).await;
}

/// Where a panic is the matter of the one who caused it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd and nightly: cargo xtask workers unwind"]
async fn unwinding_leaves_all_cases_but_those_of_the_platform() {
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/build-unwind");
    let workerd = Workerd::start(&project().build(build));
    check(&Arc::new(workerd.expect("`cargo xtask workers unwind` builds it first")), ELSEWHERE)
        .await;
}

/// Every case but the exceptions runs to its end, and passes. An exception that is no case, or a case that
/// did not run, is a failure.
async fn check(workerd: &Arc<Workerd>, exceptions: &[&str]) {
    for exception in exceptions {
        assert!(CASES.iter().any(|case| case.name == *exception), "{exception} is no case");
    }
    let cases = CASES.iter().filter(|case| !exceptions.contains(&case.name));
    let cases: Vec<Case> = cases.map(|case| Case { name: case.name, run: case.run }).collect();
    let report = run_cases(&target(workerd), cases.leak()).await;
    println!("{report}and {} exceptions", exceptions.len());
    assert!(report.is_passed(), "{report}\n{}", workerd.log().lines().join("\n"));
    assert_eq!(report.ran() + exceptions.len(), CASES.len());
}
