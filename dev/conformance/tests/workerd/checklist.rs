//! The checklist for hibernation that this project began with, a test for each line, in its order, under
//! the names that they have on Tokio. Sleep is forced: it is `workerd` that drops the room.

use partykit_conformance::{
    SWITCHBOARD,
    suite::checklist::{self, who},
};

use crate::support::{start, target};

/// "Connect with hibernation enabled"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_01_connect_with_hibernation_enabled() {
    checklist::line_01(&target(&start())).await;
}

/// "Wait 20+ seconds (force hibernation)": forced. The socket stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_02_wait_20_seconds() {
    checklist::line_02(&target(&start())).await;
}

/// "Send a message - verify it's received"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_03_a_message_is_received() {
    checklist::line_03(&target(&start())).await;
}

/// "Check server logs show "hibernation wake""
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_04_the_log_shows_the_wake() {
    let workerd = start();
    let target = target(&workerd);
    let room = target.room_of(SWITCHBOARD, "line-04");
    let mut ada = room.connect("ada").await;
    ada.next_json().await;
    room.sleep().await;
    let before = workerd.lines().expect("a log").len();
    ada.say("hello").await;
    ada.next_text().await;
    let lines = workerd.lines().expect("a log").split_off(before);
    let wakes: Vec<_> = lines.iter().filter(|line| line.contains("the room wakes")).collect();
    assert_eq!(wakes.len(), 1, "{lines:#?}");
    for part in ["reason=Wake", "cause=message", SWITCHBOARD, room.id()] {
        assert!(wakes[0].contains(part), "{part} is not in {}", wakes[0]);
    }
    assert!(!lines.iter().any(|line| line.contains("hello")), "never what was said: {lines:#?}");
}

/// "Verify connection count accurate after wake"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_05_the_count_is_right_after_a_wake() {
    checklist::line_05(&target(&start())).await;
}

/// "Connect 2nd client while DO hibernated"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_06_a_second_client_connects_to_a_sleeping_room() {
    checklist::line_06(&target(&start())).await;
}

/// "Verify mode switches (solo → multi)"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_07_the_mode_switches_to_multi() {
    checklist::line_07(&target(&start())).await;
}

/// "Verify both clients receive broadcasts"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_08_both_receive_broadcasts() {
    checklist::line_08(&target(&start())).await;
}

/// "Disconnect 1 client"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_09_one_client_disconnects() {
    checklist::line_09(&target(&start())).await;
}

/// "Verify mode switches (multi → solo)"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_10_the_mode_switches_to_solo() {
    checklist::line_10(&target(&start())).await;
}

/// "Verify remaining client gets updated count"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_11_who_stays_gets_the_count() {
    checklist::line_11(&target(&start())).await;
}

/// "Spam connect/disconnect rapidly"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_12_spam_connect_and_disconnect() {
    checklist::line_12(&target(&start())).await;
}

/// "Verify last action wins"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_13_the_last_action_wins() {
    checklist::line_13(&target(&start())).await;
}

/// "Verify no double connections"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_14_no_double_connections() {
    checklist::line_14(&target(&start())).await;
}

/// "Check `getConnections()` matches `ctx.getWebSockets()`"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_15_the_room_lists_what_the_runtime_has() {
    checklist::line_15(&target(&start())).await;
}

/// "Confirm instance variables reset after hibernation"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_16_instance_variables_are_reset() {
    checklist::line_16(&target(&start())).await;
}

/// "Confirm logs are buffered (delayed appearance)": ours are not. When a client has the answer, what
/// was logged on the way to it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_17_the_log_is_not_delayed() {
    let workerd = start();
    let target = target(&workerd);
    let room = target.room_of(SWITCHBOARD, "line-17");
    let mut ada = room.connect("ada").await;
    ada.next_json().await;
    for _ in 0..10 {
        room.sleep().await;
        let before = workerd.lines().expect("a log").len();
        who(&mut ada).await;
        let lines = workerd.lines().expect("a log").split_off(before);
        let at = |text: &str| lines.iter().position(|line| line.contains(text));
        let (woke, handled) = (at("the room wakes"), at("a message is handled"));
        assert!(woke.is_some() && woke < handled, "{lines:#?}");
    }
}

/// "Measure wall time savings (should be >99%)": the clock is the platform's, and so is the account. What
/// is ours to show is that nothing is in memory between two messages, whatever pings and heartbeats come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn line_18_wall_time_is_saved() {
    let workerd = start();
    let target = target(&workerd);
    let room = target.room_of(SWITCHBOARD, "line-18");
    let mut ada = room.connect("ada").await;
    ada.next_json().await;
    for _ in 0..10 {
        who(&mut ada).await;
        room.sleep().await;
        ada.ping(b"").await;
        ada.next().await;
        ada.say("heartbeat").await;
        assert_eq!(ada.next_text().await, "alive");
        let in_memory = workerd.evict(SWITCHBOARD, room.id()).expect("an answer");
        assert!(!in_memory, "there is something to pay for");
    }
}
