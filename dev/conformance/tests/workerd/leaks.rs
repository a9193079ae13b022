//! Nothing grows with the sleeps of a room. Its instances are garbage of JavaScript, which V8 may leave for
//! thousands of wakes; here it is told to collect it.

use std::{fs, sync::Arc};

use partykit_conformance::suite::{Client, Room};
use partykit_workerd::Workerd;

use crate::support::{project, target};

/// How often the room sleeps and wakes before the first look: what is made once has been made by then.
const WARM: u32 = 250;

/// How often before the last.
const LAST: u32 = 750;

/// How many connections the room has: each is made again at every wake.
const CLIENTS: usize = 20;

/// What the rooms' memory may grow by between the looks, in bytes. It takes 6 kB a wake when nothing of a
/// room is freed: ten times as much.
const ROOMS_GROW: u64 = 256 * 1024;

/// And the process, in KiB, where it is 35 kB a wake: half as much again.
const PROCESS_GROWS: u64 = 10 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn a_room_that_wakes_often_does_not_grow() {
    let project = project().v8_flag("--expose-gc");
    let workerd = Workerd::start(&project).expect("`cargo xtask workerd` builds it first");
    let workerd = Arc::new(workerd);
    let target = target(&workerd);
    let room = target.room_of("desk", "leaks");
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        clients.push(room.connect(&n.to_string()).await);
    }
    let mut before = None;
    for wake in 1..=LAST {
        let rooms = wake_again(&room, &mut clients[0]).await;
        if [WARM, 500, LAST].contains(&wake) {
            let process = resident(&workerd);
            println!("after {wake} wakes: rooms {rooms} bytes, workerd {process:?} KiB");
            let (rooms_before, process_before) = *before.get_or_insert((rooms, process));
            assert!(rooms - rooms_before <= ROOMS_GROW, "{rooms_before} bytes, then {rooms}");
            if let (Some(now), Some(before)) = (process, process_before) {
                assert!(now.saturating_sub(before) <= PROCESS_GROWS, "{before} KiB, then {now}");
            }
        }
    }
    let life = workerd.life("desk", room.id()).expect("a log");
    assert_eq!(life.wakes.len(), 1 + LAST as usize, "each time it was made again");
}

/// Puts the room to sleep, and asks it awake; the bytes of the memory that all rooms share.
async fn wake_again(room: &Room<'_>, client: &mut Client) -> u64 {
    room.sleep().await;
    client.say("memory").await;
    client.next_text().await.parse().expect("a number of bytes")
}

/// What the process alone has in memory, in KiB, on systems that tell it. Its share of the program's own pages would
/// change with each other `workerd` that starts or ends.
fn resident(workerd: &Workerd) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", workerd.process_id())).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"))?;
    line.split_whitespace().next()?.parse().ok()
}
