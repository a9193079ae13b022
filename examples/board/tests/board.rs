//! The board in a room of its own: what it answers, what it stores, and that sleep and crashes lose
//! nothing that it called saved.

use std::sync::Arc;

use board::{Ask, Board, Change, Changes, Color, Column, Event, Item, ItemId, MAX_ITEMS, Page};
use futures_executor::block_on;
use partykit::{
    Body, List, Message, Request,
    http::Method,
    storage::MemoryBackend,
    testing::{FaultyBackend, Step, TestConnection, TestRoom, transparency},
};
use serde_json::{Value, json};

type Room = TestRoom<Board>;

/// The n-th oldest item.
fn item(n: u64) -> Item {
    let item = json!({
        "id": format!("{n:020x}"), "text": format!("item {n}"),
        "column": "todo", "color": "yellow", "place": format!("{n}i"),
    });
    serde_json::from_value(item).unwrap()
}

fn id(n: u64) -> ItemId {
    item(n).id
}

fn create(n: u64) -> Change {
    Change::Create { item: item(n) }
}

fn recolor(n: u64, color: Color) -> Change {
    Change::Update { id: id(n), changes: Changes { color: Some(color), ..Changes::default() } }
}

fn say(op: u64, change: Change) -> Message {
    Message::from_json(&Ask::Change { op, change }).unwrap()
}

/// What a client was told, without the news of who is here.
fn heard(client: &TestConnection) -> Vec<Event> {
    let events = client.received().into_iter().map(|message| message.json().unwrap());
    events.filter(|event| !matches!(event, Event::People { .. })).collect()
}

async fn page(client: &TestConnection, before: Option<u64>, limit: Option<usize>) -> Page {
    let ask = Ask::Page { before: before.map(id), limit };
    client.send(Message::from_json(&ask).unwrap()).await;
    match heard(client).pop() {
        Some(Event::Page { page, .. }) => page,
        other => panic!("no page, but {other:?}"),
    }
}

async fn request(room: &Room, method: Method, rest: &str, body: &Value) -> (u16, Value) {
    let mut request = Request::new(Body::from(body.to_string()));
    *request.uri_mut() =
        format!("/parties/{}/{}/{rest}", room.address().party(), room.address().room())
            .parse()
            .unwrap();
    *request.method_mut() = method;
    let answer = room.request(request).await.unwrap();
    let body = serde_json::from_slice(answer.body().bytes().unwrap()).unwrap();
    (answer.status().as_u16(), body)
}

async fn with_items(count: u64) -> (Room, TestConnection) {
    let room = Room::new();
    let client = room.connect("ada").await;
    for n in 0..count {
        client.send(say(n, create(n))).await;
    }
    heard(&client);
    (room, client)
}

#[test]
fn everybody_hears_a_change_and_its_author_that_it_is_saved() {
    block_on(async {
        let room = Room::new();
        let (ada, grace) = (room.connect("ada").await, room.connect("grace").await);
        ada.send(say(7, create(1))).await;
        let created = Event::Item { item: item(1), total: 1 };
        assert_eq!(heard(&ada), [created.clone(), Event::Saved { op: 7 }]);
        assert_eq!(heard(&grace), [created]);

        grace.send(say(1, recolor(1, Color::Pink))).await;
        let pink = Item { color: Color::Pink, ..item(1) };
        assert_eq!(heard(&ada), [Event::Item { item: pink.clone(), total: 1 }]);
        assert_eq!(room.stored(&format!("item:{}", id(1).as_str())).await, Some(pink));

        ada.send(say(8, Change::Delete { id: id(1) })).await;
        let deleted = Event::Deleted { id: id(1), total: 0 };
        assert_eq!(heard(&ada), [deleted.clone(), Event::Saved { op: 8 }]);
        assert!(heard(&grace).ends_with(&[deleted]));
        assert_eq!(room.rows(List::new().prefix("item:")).await, []);
    });
}

#[test]
fn each_item_has_a_row_and_a_change_writes_only_its_own() {
    block_on(async {
        let (room, ada) = with_items(3).await;
        let keys = async || -> Vec<String> {
            room.rows(List::new()).await.into_iter().map(|(key, _)| key).collect()
        };
        let item_keys = (0..3).map(|n| format!("item:{n:020x}"));
        assert_eq!(
            keys().await,
            ["count".to_owned()].into_iter().chain(item_keys).collect::<Vec<_>>()
        );
        let before = room.rows(List::new()).await;
        ada.send(say(9, recolor(1, Color::Gray))).await;
        let after = room.rows(List::new()).await;
        let changed: Vec<_> = before.iter().zip(&after).filter(|(old, new)| old != new).collect();
        assert_eq!(changed.len(), 1);
        assert_eq!(changed[0].0.0, format!("item:{:020x}", 1));
    });
}

#[test]
fn pages_go_from_the_newest_to_the_oldest() {
    block_on(async {
        let (room, ada) = with_items(7).await;
        let ids = |page: &Page| page.items.iter().map(|item| item.id.clone()).collect::<Vec<_>>();
        let first = page(&ada, None, Some(3)).await;
        assert_eq!((ids(&first), first.more, first.total), (vec![id(6), id(5), id(4)], true, 7));
        // In between one comes and one goes.
        ada.send(say(1, create(7))).await;
        ada.send(say(2, Change::Delete { id: id(3) })).await;
        let second = page(&ada, Some(4), Some(3)).await;
        assert_eq!(
            (ids(&second), second.more, second.total),
            (vec![id(2), id(1), id(0)], false, 7)
        );
        let none = page(&ada, Some(0), Some(3)).await;
        assert_eq!((none.items, none.more), (vec![], false));

        room.hibernate().await.unwrap();
        assert_eq!(ids(&page(&ada, None, Some(1)).await), [id(7)]);
    });
}

#[test]
fn a_page_has_30_items_unless_said_and_never_more_than_100() {
    block_on(async {
        let (_room, ada) = with_items(101).await;
        for (limit, length) in [(None, 30), (Some(0), 1), (Some(100), 100), (Some(5000), 100)] {
            let page = page(&ada, None, limit).await;
            assert_eq!((page.items.len(), page.more), (length, true), "{limit:?}");
        }
    });
}

#[test]
fn saved_is_said_after_the_commit_and_outlives_a_crash() {
    block_on(async {
        let disk = FaultyBackend::new(MemoryBackend::default(), 1);
        let room = Room::builder().backend(Arc::new(disk.clone())).build();
        let ada = room.connect("ada").await;
        let grace = room.connect("grace").await;
        ada.send(say(1, create(1))).await;
        assert_eq!(heard(&ada).last(), Some(&Event::Saved { op: 1 }));
        heard(&grace);

        disk.hold_commits();
        ada.send(say(2, create(2))).await;
        assert_eq!((heard(&ada), heard(&grace)), (vec![], vec![]), "nobody hears of it before");
        room.crash().await;
        disk.release_commits();

        let ada = room.connect("ada").await;
        let items = page(&ada, None, None).await.items;
        assert_eq!(items.last(), Some(&item(1)));
        // Whether the second one was stored nobody knows. So it is said again, and done once.
        ada.send(say(2, create(2))).await;
        ada.send(say(2, create(2))).await;
        let page = page(&ada, None, None).await;
        assert_eq!((page.items, page.total), (vec![item(2), item(1)], 2));
    });
}

#[test]
fn a_change_whose_commit_fails_is_never_called_saved() {
    block_on(async {
        let disk = FaultyBackend::new(MemoryBackend::default(), 1);
        let room = Room::builder().backend(Arc::new(disk.clone())).build();
        let ada = room.connect("ada").await;
        disk.fail_next_commit();
        ada.send(say(1, create(1))).await;
        assert_eq!(heard(&ada), []);
        assert!(ada.is_open());
        assert_eq!(page(&ada, None, None).await.total, 0, "neither of the two rows is there");
        ada.send(say(1, create(1))).await;
        assert_eq!(heard(&ada).last(), Some(&Event::Saved { op: 1 }));
    });
}

#[test]
fn a_repeated_create_does_not_undo_what_came_after() {
    block_on(async {
        let (_room, ada) = with_items(1).await;
        ada.send(say(1, recolor(0, Color::Blue))).await;
        ada.send(say(2, create(0))).await;
        assert_eq!(page(&ada, None, None).await.items, [Item { color: Color::Blue, ..item(0) }]);
        for op in [3, 4] {
            ada.send(say(op, Change::Delete { id: id(0) })).await;
            assert_eq!(heard(&ada).last(), Some(&Event::Saved { op }));
        }
        assert_eq!(page(&ada, None, None).await.total, 0);
    });
}

#[test]
fn bad_input_is_answered_and_changes_nothing() {
    block_on(async {
        let (room, ada) = with_items(1).await;
        let before = room.rows(List::new()).await;
        let good = serde_json::to_value(item(5)).unwrap();
        let with = |field: &str, value: Value| {
            let mut item = good.clone();
            item[field] = value;
            json!({ "type": "change", "op": 5, "change": { "do": "create", "item": item } })
        };
        let update = |changes: Value| {
            let change = json!({ "do": "update", "id": id(0), "changes": changes });
            json!({ "type": "change", "op": 5, "change": change })
        };
        let numbered = [
            (with("text", json!("x".repeat(2001))), "a text has 1 to 2000 bytes"),
            (with("text", json!("é".repeat(1001))), "not 2002"),
            (with("text", json!(" \n")), "a text has"),
            (with("id", json!("../../etc")), "an id has 20"),
            (with("id", json!("ABCDEF00000000000000")), "an id has 20"),
            (with("place", json!("")), "a place has"),
            (with("place", json!("a0")), "a place has"),
            (with("place", json!("i".repeat(201))), "a place has"),
            (with("column", json!("never")), "unknown variant `never`"),
            (with("owner", json!("me")), "unknown field `owner`"),
            (update(json!({ "text": "" })), "a text has"),
            (update(json!({ "id": id(3) })), "unknown field `id`"),
            (json!({ "op": 5 }), "missing field `type`"),
        ];
        for (said, why) in numbered {
            ada.send(said.to_string()).await;
            match heard(&ada).as_slice() {
                [Event::Refused { op: Some(5), reason }] => {
                    assert!(reason.contains(why), "{reason}");
                }
                other => panic!("{said}: {other:?}"),
            }
        }
        let other: [Message; 4] = ["".into(), "[]".into(), "{\"op\":-1}".into(), vec![0xff].into()];
        for said in other {
            ada.send(said.clone()).await;
            assert!(
                matches!(heard(&ada).as_slice(), [Event::Refused { op: None, .. }]),
                "{said:?}"
            );
        }
        ada.send(say(6, recolor(99, Color::Blue))).await;
        let missing = Event::Refused { op: Some(6), reason: "there is no such item".into() };
        assert_eq!(heard(&ada), [missing]);
        assert_eq!(room.rows(List::new()).await, before);
        assert!(ada.is_open());
        assert_eq!(room.stats().account.wakes(), 1, "and nothing failed");
    });
}

#[test]
fn what_is_just_within_the_limits_is_taken() {
    block_on(async {
        let room = Room::new();
        let body = json!({ "text": "é".repeat(1000), "column": "done", "color": "gray" });
        let (status, created) = request(&room, Method::POST, "items", &body).await;
        assert_eq!((status, &created["text"]), (201, &body["text"]));
        let rest = format!("items/{}", created["id"].as_str().unwrap());
        let changes = json!({ "place": "i".repeat(200) });
        assert_eq!(request(&room, Method::PATCH, &rest, &changes).await.0, 200);
    });
}

#[test]
fn a_full_board_refuses_and_takes_again_when_one_is_gone() {
    block_on(async {
        let (room, ada) = with_items(0).await;
        for n in 0..MAX_ITEMS {
            ada.send(say(n, create(n))).await;
        }
        assert_eq!(heard(&ada).last(), Some(&Event::Saved { op: MAX_ITEMS - 1 }));
        ada.send(say(1, create(MAX_ITEMS))).await;
        let full = Event::Refused { op: Some(1), reason: "a board has at most 10000 items".into() };
        assert_eq!(heard(&ada), [full]);
        let (status, _) = request(&room, Method::POST, "items", &json!({ "text": "no" })).await;
        assert_eq!(status, 409);
        ada.send(say(2, Change::Delete { id: id(17) })).await;
        ada.send(say(3, create(MAX_ITEMS))).await;
        assert_eq!(heard(&ada).last(), Some(&Event::Saved { op: 3 }));
    });
}

#[test]
fn requests_do_the_same_and_sockets_hear_of_it() {
    block_on(async {
        let room = Room::new();
        let ada = room.connect("ada").await;
        heard(&ada);
        let body = json!({ "text": "by post", "column": "doing" });
        let (status, first) = request(&room, Method::POST, "items", &body).await;
        assert_eq!(status, 201);
        let [Event::Item { item, total: 1 }] = &heard(&ada)[..] else { panic!("not told") };
        assert_eq!(serde_json::to_value(item).unwrap(), first);
        assert_eq!((item.column, item.color), (Column::Doing, Color::Yellow));

        room.advance(std::time::Duration::from_secs(1)).await;
        let (_, second) = request(&room, Method::POST, "items", &json!({ "text": "two" })).await;
        let path = |item: &Value| format!("items/{}", item["id"].as_str().unwrap());
        let none = Value::Null;
        let (_, all) = request(&room, Method::GET, "items", &none).await;
        assert_eq!(all, json!({ "items": [second, first], "more": false, "total": 2 }));
        let rest = format!("items?limit=1&after={}", second["id"].as_str().unwrap());
        let (_, page) = request(&room, Method::GET, &rest, &none).await;
        assert_eq!(page["items"], json!([first]));

        let changes = json!({ "text": "patched" });
        let (status, patched) = request(&room, Method::PATCH, &path(&first), &changes).await;
        assert_eq!((status, &patched["text"]), (200, &json!("patched")));
        assert_eq!(request(&room, Method::GET, &path(&first), &none).await, (200, patched));
        assert_eq!(request(&room, Method::DELETE, &path(&first), &none).await.0, 200);
        assert_eq!(request(&room, Method::GET, &path(&first), &none).await.0, 404);
        assert_eq!(request(&room, Method::PATCH, &path(&first), &changes).await.0, 404);
        assert!(matches!(heard(&ada).last(), Some(Event::Deleted { total: 1, .. })));
    });
}

#[test]
fn requests_that_mean_nothing_are_told_so() {
    block_on(async {
        let room = Room::new();
        let none = json!({});
        for (method, rest, status) in [
            (Method::POST, "items", 400),
            (Method::GET, "items?limit=many", 400),
            (Method::GET, "items?after=yesterday", 400),
            (Method::GET, "items/yesterday", 400),
            (Method::PUT, "items", 405),
            (Method::PUT, "items/00000000000000000000", 405),
            (Method::GET, "items/00000000000000000000/text", 404),
            (Method::GET, "", 404),
        ] {
            let answer = request(&room, method.clone(), rest, &none).await;
            assert_eq!(answer.0, status, "{method} {rest}");
            assert_eq!(answer.1["type"], "refused");
        }
        assert_eq!(room.rows(List::new()).await, []);
    });
}

#[test]
fn sleep_is_invisible() {
    let page = Message::from_json(&Ask::Page { before: None, limit: Some(2) }).unwrap();
    let steps = [
        Step::connect("ada"),
        Step::say("ada", say(1, create(1))),
        Step::connect("grace"),
        Step::say("grace", say(1, create(2))),
        Step::say("grace", say(2, create(3))),
        Step::say("ada", say(2, recolor(2, Color::Green))),
        Step::say("ada", page.clone()),
        Step::get("/items?limit=1"),
        Step::say("grace", "nonsense"),
        Step::say("grace", say(3, Change::Delete { id: id(1) })),
        Step::close("grace", 1000),
        Step::say("ada", page),
        Step::get("/items"),
    ];
    block_on(transparency(Room::builder, &steps)).unwrap();
}
