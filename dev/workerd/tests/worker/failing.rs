//! The Worker's JavaScript: when the wasm instance fails, everybody gets an answer, and rooms go on.

use std::thread;

use crate::support::{Client, PATIENCE, get, start};

#[test]
#[ignore = "needs workerd: cargo xtask workerd"]
fn whatever_fails_is_answered_and_the_rooms_go_on() {
    for failure in ["panic", "panic-later", "throw", "abort", "panic-at-the-entry"] {
        let workerd = start();
        let address = workerd.address();
        let mut client = Client::connect(address, "a");
        assert_eq!(client.ask("before"), "before 2");
        assert_eq!(get(address, "/neighbour/count").1, "1");

        let neighbour = thread::spawn(move || get(address, "/neighbour/wait").0);
        workerd.log().wait_for("waiting", PATIENCE).expect("a request that waits");
        assert_eq!(get(address, &format!("/a/{failure}")).0, 500, "{failure}");
        // It waited for the instance that is no more.
        assert_eq!(neighbour.join().unwrap(), 500, "{failure}");

        assert_eq!(client.ask("after"), "after 1", "{failure}");
        assert_eq!(client.ask("after"), "after 2", "{failure}");
        assert_eq!(get(address, "/neighbour/count").1, "1", "{failure}");
    }
}

#[test]
#[ignore = "needs workerd: cargo xtask workerd"]
fn a_message_that_fails_leaves_the_socket_open() {
    let workerd = start();
    let mut client = Client::connect(workerd.address(), "a");
    client.say("panic");
    assert_eq!(client.ask("after"), "after 1");
    assert!(workerd.log().wait_for("starts again", PATIENCE).is_some());
}
