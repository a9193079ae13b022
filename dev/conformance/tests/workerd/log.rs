use partykit_conformance::SWITCHBOARD;

use crate::support::{start, target};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn numbers_of_all_kinds_are_written() {
    let workerd = start();
    let target = target(&workerd);
    let room = target.room_of(SWITCHBOARD, "numbers");
    let mut ada = room.connect("ada").await;
    ada.next_json().await;
    ada.say("hello").await;
    ada.next_text().await;
    let lines = workerd.lines().expect("a log");
    let line = lines.iter().find(|line| line.contains("a message is handled")).expect("its line");
    let (least, most) = (format!("{:#x}", i128::MIN), format!("{:#x}", u128::MAX));
    for part in ["float=0.25".to_owned(), format!("least={least}"), format!("most={most}")] {
        assert!(line.contains(&part), "{part} is not in {line}");
    }
}
