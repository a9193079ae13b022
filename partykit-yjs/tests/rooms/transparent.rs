use futures_executor::block_on;
use partykit_core::testing::{Step, TestRoomBuilder, transparency};
use partykit_yjs::Yjs;
use proptest::prelude::*;
use yrs::{
    ClientID, Doc, Map, MapPrelim, OffsetKind, Options, Out, Text, Transact, TransactionMut,
    Update, updates::decoder::Decode,
};

use crate::client::{awareness, sync};

#[derive(Clone, Debug)]
enum Act {
    Join(u8),
    Leave(u8),
    Vanish(u8),
    Type(u8, u8),
    Erase(u8, u8),
    Move(u8, u8),
    Repeat(u8, u8),
    Ask(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let who = 0_u8..4;
    prop_oneof![
        3 => who.clone().prop_map(Act::Join),
        1 => who.clone().prop_map(Act::Leave),
        1 => who.clone().prop_map(Act::Vanish),
        6 => (who.clone(), any::<u8>()).prop_map(|(who, at)| Act::Type(who, at)),
        2 => (who.clone(), any::<u8>()).prop_map(|(who, at)| Act::Erase(who, at)),
        4 => (who.clone(), any::<u8>()).prop_map(|(who, at)| Act::Move(who, at)),
        2 => (who.clone(), who.clone()).prop_map(|(who, of)| Act::Repeat(who, of)),
        1 => who.prop_map(Act::Ask),
    ]
}

/// The steps of a room, as clients would say them that type each for themselves.
fn steps(acts: &[Act]) -> Vec<Step> {
    let name = |who: u8| format!("c{who}");
    let docs: Vec<Doc> = (0..4)
        .map(|n| {
            let options = Options::with_client_id(ClientID::new(n + 1));
            Doc::with_options(Options { offset_kind: OffsetKind::Utf16, ..options })
        })
        .collect();
    let (mut here, mut clocks) = ([false; 4], [(0_u32, 0_u8); 4]);
    let mut steps = Vec::new();
    for act in acts {
        match *act {
            Act::Join(who) if !here[who as usize] => {
                here[who as usize] = true;
                steps.push(Step::connect(&name(who)));
                steps.push(Step::say(&name(who), sync(0, &[0])));
            }
            Act::Leave(who) if here[who as usize] => {
                here[who as usize] = false;
                steps.push(Step::close(&name(who), 1000));
            }
            Act::Vanish(who) if here[who as usize] => {
                here[who as usize] = false;
                steps.push(Step::vanish(&name(who)));
            }
            Act::Type(who, at) if here[who as usize] => {
                let doc = &docs[who as usize];
                let text = doc.get_or_insert_text("t");
                let mut txn = doc.transact_mut();
                let at = u32::from(at) % (text.len(&txn) + 1);
                text.insert(&mut txn, at, "ab");
                steps.push(Step::say(&name(who), sync(2, &txn.encode_update_v1())));
            }
            Act::Erase(who, at) if here[who as usize] => {
                let doc = &docs[who as usize];
                let text = doc.get_or_insert_text("t");
                let mut txn = doc.transact_mut();
                if text.len(&txn) > 0 {
                    let at = u32::from(at) % text.len(&txn);
                    text.remove_range(&mut txn, at, 1);
                    steps.push(Step::say(&name(who), sync(1, &txn.encode_update_v1())));
                }
            }
            Act::Move(who, at) if here[who as usize] => {
                let (clock, last) = &mut clocks[who as usize];
                (*clock, *last) = (*clock + 1, at);
                let frame = awareness(&[(u64::from(who) + 1, *clock, &format!("{{\"at\":{at}}}"))]);
                steps.push(Step::say(&name(who), frame));
            }
            Act::Repeat(who, of) if here[who as usize] && clocks[of as usize].0 > 0 => {
                let (clock, at) = clocks[of as usize];
                let frame = awareness(&[(u64::from(of) + 1, clock, &format!("{{\"at\":{at}}}"))]);
                steps.push(Step::say(&name(who), frame));
            }
            Act::Ask(who) if here[who as usize] => {
                steps.push(Step::say(&name(who), sync(0, &[0])));
            }
            _ => {}
        }
    }
    steps
}

/// `PROPTEST_CASES` makes more of them.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// A room that sleeps after each step says and stores what one says and stores that never does.
    #[test]
    fn sleep_does_not_show(acts in proptest::collection::vec(act(), 1..60)) {
        let rooms = || TestRoomBuilder::new(|_| <Yjs>::default());
        if let Err(difference) = block_on(transparency(rooms, &steps(&acts))) {
            return Err(TestCaseError::fail(difference.to_string()));
        }
    }
}

/// What a document in memory keeps of a deleted type, and one that was stored does not, shows in no answer.
#[test]
fn sleep_does_not_show_in_what_stood_in_a_deleted_type() {
    let [ada, bob] = [1, 2].map(Doc::with_client_id);
    let map = ada.get_or_insert_map("m");
    let change = |change: &dyn Fn(&mut TransactionMut<'_>)| {
        let mut txn = ada.transact_mut();
        change(&mut txn);
        txn.encode_update_v1()
    };
    let made = change(&|txn| {
        map.insert(txn, "k", MapPrelim::from([("a", 1)]));
    });
    bob.transact_mut().apply_update(Update::decode_v1(&made).unwrap()).unwrap();
    let deleted = change(&|txn| {
        map.remove(txn, "k");
    });
    let text = ada.get_or_insert_text("t");
    // So much that all becomes a snapshot.
    let typed = change(&|txn| text.insert(txn, 0, &"0123456789".repeat(7_000)));
    // Bob has not heard yet that it was deleted.
    let late = {
        let Some(Out::YMap(inner)) = bob.get_or_insert_map("m").get(&bob.transact(), "k") else {
            panic!("he has the map")
        };
        let mut txn = bob.transact_mut();
        inner.insert(&mut txn, "b", 2);
        inner.insert(&mut txn, "c", MapPrelim::from([("d", 3)]));
        txn.encode_update_v1()
    };
    let steps = [
        Step::connect("ada"),
        Step::connect("bob"),
        Step::say("ada", sync(0, &[0])),
        Step::say("ada", sync(1, &made)),
        Step::say("ada", sync(1, &deleted)),
        Step::say("ada", sync(1, &typed)),
        Step::say("bob", sync(1, &late)),
        Step::say("ada", sync(0, &[0])),
    ];
    let rooms = || TestRoomBuilder::new(|_| <Yjs>::default());
    if let Err(difference) = block_on(transparency(rooms, &steps)) {
        panic!("{difference}");
    }
}
