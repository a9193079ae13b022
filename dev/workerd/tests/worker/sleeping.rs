//! The harness: rooms are put to sleep, and their sockets stay.

use crate::support::{Client, PATIENCE, fixture, get, start};
use partykit_workerd::{Error, Project, Workerd};

#[test]
#[ignore = "needs workerd: cargo xtask workerd"]
fn a_room_that_is_evicted_keeps_its_sockets_and_is_constructed_again() {
    let workerd = start();
    let mut client = Client::connect(workerd.address(), "a");
    assert_eq!(client.ask("hello"), "hello 2");
    assert_eq!(client.ask("hello"), "hello 3");
    assert!(workerd.evict("main", "a").unwrap());
    assert_eq!(client.ask("again"), "again 1");
    assert_eq!(get(workerd.address(), "/a/count"), (200, "2".to_owned()));
}

#[test]
#[ignore = "needs workerd: cargo xtask workerd"]
fn only_the_room_that_is_told_sleeps() {
    let workerd = start();
    for room in ["a", "b"] {
        assert_eq!(get(workerd.address(), &format!("/{room}/count")).1, "1");
    }
    assert!(workerd.evict("main", "a").unwrap());
    assert!(!workerd.evict("main", "a").unwrap(), "it sleeps already");
    assert!(!workerd.evict("main", "never seen").unwrap());
    assert_eq!(get(workerd.address(), "/a/count").1, "1");
    assert_eq!(get(workerd.address(), "/b/count").1, "2");
    assert!(matches!(workerd.evict("nonsense", "a"), Err(Error::Refused(_))));
}

#[test]
#[ignore = "needs workerd: cargo xtask workerd"]
fn variables_arrive_as_they_are() {
    let workerd = start();
    assert_eq!(get(workerd.address(), "/a/greet").1, "\"Hello\" \\ é");
    let project = Project::open(fixture()).unwrap().var("GREETING", "line\nline");
    let workerd = Workerd::start(&project).unwrap();
    assert_eq!(get(workerd.address(), "/a/greet").1, "line\nline");
}

#[test]
#[ignore = "needs workerd: cargo xtask workerd"]
fn what_the_worker_logs_is_kept() {
    let workerd = start();
    assert_eq!(get(workerd.address(), "/a/count").0, 200);
    assert!(workerd.log().wait_for("constructed", PATIENCE).is_some());
}

#[test]
#[ignore = "needs workerd: cargo xtask workerd"]
fn a_project_that_workerd_refuses_says_why() {
    let taken = start();
    let project = Project::open(fixture()).unwrap().port(taken.address().port());
    let refused = Workerd::start(&project).unwrap_err().to_string();
    assert!(refused.contains("in use"), "{refused}");
}
