//! The room of the README keeps the promises that the README makes.

use partykit_core::testing::{Step, TestRoom, TestRoomBuilder, transparency, transparency_random};

include!("readme/guestbook.rs");

#[test]
fn the_readme_shows_this_room() {
    let (readme, room) = (include_str!("../README.md"), include_str!("readme/guestbook.rs"));
    assert!(readme.contains(room), "README.md and tests/readme/guestbook.rs differ");
}

#[tokio::test]
async fn entries_of_one_moment_are_all_stored_in_order() {
    let room = TestRoom::<Guestbook>::new();
    let ada = room.connect("ada").await;
    for n in 0..5 {
        ada.push(n.to_string());
    }
    room.settle().await;
    let rows = room.rows(List::new().prefix("entry:")).await;
    let rows: Vec<_> = rows.iter().map(|(_, text)| &text[..]).collect();
    assert_eq!(rows, [b"\"0\"", b"\"1\"", b"\"2\"", b"\"3\"", b"\"4\""]);
}

#[tokio::test]
async fn a_binary_message_locks_nobody_out() {
    let room = TestRoom::<Guestbook>::new();
    let ada = room.connect("ada").await;
    for _ in 0..1000 {
        ada.send(vec![0xFF]).await;
    }
    assert!(room.connect("bob").await.is_open());
    let account = room.stats().account;
    assert_eq!((account.rejected, account.resets, room.errors().len()), (1000, 0, 0));
}

#[tokio::test]
async fn sleep_does_not_show() {
    let rooms = || TestRoomBuilder::new(|_| Guestbook);
    let steps = [
        Step::connect("ada"),
        Step::say("ada", "I was here"),
        Step::say("ada", vec![0xFF]).may_fail(),
        Step::connect("bob"),
        Step::get(""),
        Step::close("ada", 1000),
        Step::vanish("bob"),
        Step::connect("eve"),
    ];
    transparency(rooms, &steps).await.unwrap();
    transparency_random(rooms, &steps, 1, 100).await.unwrap();
}
