//! A Worker that was built to unwind: a panic is the matter of the one who caused it.

use std::thread;

use partykit_workerd::{Project, Workerd};

use crate::support::{Client, PATIENCE, fixture, get};

fn start() -> Workerd {
    let project =
        Project::open(fixture()).expect("a project").build(fixture().join("build-unwind"));
    Workerd::start(&project).expect("`cargo xtask workers unwind` builds the fixture first")
}

#[test]
#[ignore = "needs workerd and nightly: cargo xtask workers unwind"]
fn a_panic_is_answered_and_nobody_else_notices() {
    let workerd = start();
    let address = workerd.address();
    let mut client = Client::connect(address, "a");
    assert_eq!(client.ask("before"), "before 2");
    assert_eq!(get(address, "/neighbour/count").1, "1");
    let neighbour = thread::spawn(move || get(address, "/neighbour/wait-for-go").1);
    workerd.log().wait_for("waiting", PATIENCE).expect("a request that waits");
    for failure in ["panic", "panic-later", "panic-at-the-entry"] {
        assert_eq!(get(address, &format!("/a/{failure}")).0, 500, "{failure}");
    }
    client.say("panic");
    // Twice in a handler of the room, once before; the message counts, too.
    assert_eq!(client.ask("after"), "after 6");
    assert_eq!(get(address, "/neighbour/go").1, "3");
    assert_eq!(neighbour.join().unwrap(), "went");
}
