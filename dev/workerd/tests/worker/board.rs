//! The board (`examples/board`): what it has said is saved is there when its room wakes, and when the whole
//! of `workerd` has ended and come back.

use std::path::Path;

use partykit_workerd::{Project, Workerd};
use serde_json::{Value, json};

use crate::support::{Client, get, send};

const ROOM: &str = "/parties/board/team";

#[test]
#[ignore = "needs workerd: cargo xtask workerd"]
fn items_outlive_the_instance_and_the_process() {
    let disk = tempfile::tempdir().expect("a directory");
    let board = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/board");
    let project = Project::open(board).expect("a project").party("board", "Board");
    let project = project.storage(disk.path());
    let start = || Workerd::start(&project).expect("`cargo xtask workerd` builds the board first");

    let workerd = start();
    let mut client = Client::at(workerd.address(), ROOM);
    assert_eq!(hear(&mut client), json!({ "type": "people", "count": 1 }));
    let item = json!({
        "id": "01900000000000000001", "text": "over a socket", "column": "todo",
        "color": "yellow", "place": "i",
    });
    let create = json!({
        "type": "change", "op": 1, "change": { "do": "create", "item": item },
    });
    client.say(&create.to_string());
    let told = [hear(&mut client), hear(&mut client)];
    assert_eq!(told.map(|event| event["type"].clone()), ["item", "saved"]);
    let draft = json!({ "text": "over HTTP" }).to_string();
    let (status, created) = send(workerd.address(), "POST", &format!("{ROOM}/items"), &draft);
    assert_eq!(status, 201, "{created}");
    assert_eq!(hear(&mut client)["type"], "item", "who is here hears of it");
    let items = items(&workerd);
    assert_eq!(texts(&items), ["over HTTP", "over a socket"]);

    assert!(workerd.evict("board", "team").unwrap(), "it was awake");
    client.say(&json!({ "type": "page" }).to_string());
    assert_eq!(hear(&mut client)["items"], items["items"], "the socket is still there, too");
    drop(workerd);

    let workerd = start();
    assert_eq!(self::items(&workerd), items);
    let mut client = Client::at(workerd.address(), ROOM);
    assert_eq!(hear(&mut client)["count"], 1, "nobody else has come back");
    let (status, page) = get(workerd.address(), "/");
    assert!(status == 200 && page.contains("<title>"), "{status} {page}");
    assert_eq!(get(workerd.address(), "/no-such-file").0, 404);
}

fn hear(client: &mut Client) -> Value {
    serde_json::from_str(&client.hear()).expect("JSON")
}

fn items(workerd: &Workerd) -> Value {
    let (status, page) = get(workerd.address(), &format!("{ROOM}/items"));
    assert_eq!(status, 200, "{page}");
    serde_json::from_str(&page).expect("JSON")
}

fn texts(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().expect("items");
    items.iter().filter_map(|item| item["text"].as_str()).collect()
}
