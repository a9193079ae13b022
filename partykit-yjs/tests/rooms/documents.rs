use std::time::Duration;

use futures_executor::block_on;
use partykit_core::{Body, Connection, List, Request, Response, Result, Room, testing::TestRoom};
use partykit_yjs::{Document, YServer, Yjs};
use yrs::{Doc, GetString, ReadTxn, StateVector, Text, Transact, Update, updates::decoder::Decode};

use crate::client::{Client, settle};

fn seed() -> Vec<u8> {
    let doc = Doc::with_client_id(1000);
    let text = doc.get_or_insert_text("t");
    text.insert(&mut doc.transact_mut(), 0, "Dear all");
    doc.transact().encode_state_as_update_v1(&StateVector::default())
}

fn text_of(update: &[u8]) -> String {
    let doc = Doc::new();
    doc.transact_mut().apply_update(Update::decode_v1(update).unwrap()).unwrap();
    doc.get_or_insert_text("t").get_string(&doc.transact())
}

#[test]
fn what_one_types_arrives_at_the_others_and_at_who_comes_later() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut all = vec![Client::new(&room, "ada", 1).await, Client::new(&room, "bob", 2).await];
        all[0].insert(0, "hello").await;
        all[1].insert(0, "wörld 🌍 ").await;
        settle(&mut all).await;
        all.push(Client::new(&room, "eve", 3).await);
        settle(&mut all).await;
        assert_eq!(all[0].text().len(), "hellowörld 🌍 ".len());
        assert!(all.iter().all(|client| client.synced && client.text() == all[0].text()));
    });
}

/// An update arrives once at each other client, and not at who made it.
#[test]
fn a_keystroke_is_one_frame_for_each_other() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut all = Vec::new();
        for n in 0..20 {
            all.push(Client::new(&room, &format!("c{n}"), n).await);
        }
        settle(&mut all).await;
        let before: usize = all.iter().map(|client| client.heard).sum();
        all[3].insert(0, "x").await;
        settle(&mut all).await;
        assert_eq!(all.iter().map(|client| client.heard).sum::<usize>() - before, 19);
    });
}

#[test]
fn what_others_saw_survives_a_crash_and_a_sleep() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut ada = Client::new(&room, "ada", 1).await;
        for at in 0..50 {
            ada.insert(at, "x").await;
            if at % 7 == 0 {
                room.hibernate().await.unwrap();
            }
        }
        room.crash().await;
        let mut bob = Client::new(&room, "bob", 2).await;
        bob.hear().await;
        assert_eq!(bob.text(), "x".repeat(50));
    });
}

/// A client that was away says what it did in the meantime when it is asked; only that is stored and sent.
#[test]
fn who_comes_back_brings_what_it_wrote_and_gets_what_others_did() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut all = vec![Client::new(&room, "ada", 1).await, Client::new(&room, "bob", 2).await];
        all[0].insert(0, "both ").await;
        settle(&mut all).await;
        let ada = all.remove(0);
        ada.connection.vanish().await;
        let _ = ada.edit(|doc| {
            doc.get_or_insert_text("t").insert(&mut doc.transact_mut(), 5, "ada ");
            Vec::new()
        });
        all[0].insert(5, "bob ").await;
        let rows = room.rows(List::new().prefix("yjs:u:")).await.len();
        all.push(ada.again(&room, "ada").await);
        settle(&mut all).await;
        assert_eq!(all[0].text(), all[1].text());
        assert!(all[0].text().contains("ada ") && all[0].text().contains("bob "));
        assert_eq!(room.rows(List::new().prefix("yjs:u:")).await.len(), rows + 1);
    });
}

#[test]
fn many_changes_become_a_snapshot() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut ada = Client::new(&room, "ada", 1).await;
        for at in 0..1_203 {
            ada.insert(at, "x").await;
            let rows = room.rows(List::new().prefix("yjs:u:")).await.len();
            assert!(rows < 500, "{rows} changes after {at}");
        }
        assert_eq!(room.rows(List::new().prefix("yjs:s:")).await.len(), 1);
        room.crash().await;
        let bob = Client::new(&room, "bob", 2).await;
        assert_eq!(bob.text(), "x".repeat(1_203));
        bob.connection.close(1000, "").await.unwrap();
        let rows = room.rows(List::new().prefix("yjs:u:")).await;
        assert!(rows.is_empty(), "the last one to leave leaves a snapshot behind: {}", rows.len());
        assert_eq!(Client::new(&room, "eve", 3).await.text(), "x".repeat(1_203));
    });
}

#[test]
fn a_change_of_many_megabytes_is_stored_in_pieces() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut ada = Client::new(&room, "ada", 1).await;
        let novel = "0123456789abcdef".repeat(5 << 16);
        ada.insert(0, &novel).await;
        ada.insert(0, "The novel: ").await;
        room.crash().await;
        assert_eq!(room.rows(List::new().prefix("yjs:s:")).await.len(), 6);
        let bob = Client::new(&room, "bob", 2).await;
        assert_eq!(bob.text(), format!("The novel: {novel}"));
    });
}

#[derive(Default)]
struct Office;

impl YServer for Office {
    fn max_document() -> usize {
        100_000
    }

    fn save_after() -> Option<Duration> {
        Some(Duration::from_secs(2))
    }

    async fn on_load(&mut self, _: &Room) -> Result<Option<Vec<u8>>> {
        Ok(Some(seed()))
    }

    async fn on_save(&mut self, room: &Room, mut document: Document<'_>) -> Result {
        let saved: u32 = room.storage().get("saved").await?.unwrap_or(0);
        room.storage().put("saved", &(saved + 1))?;
        room.storage().put("text", &document.text("t").await?)?;
        Ok(())
    }

    fn is_read_only(&self, _: &Room, connection: &Connection) -> bool {
        connection.id() == "guest"
    }

    async fn on_custom_message(&mut self, room: &Room, _: &Connection, text: &str) -> Result {
        room.broadcast(partykit_yjs::custom_message(&format!("all: {text}"))).send();
        Ok(())
    }

    async fn on_request(
        &mut self,
        _: &Room,
        mut document: Document<'_>,
        request: Request,
    ) -> Result<Response> {
        match request.uri().path().rsplit('/').next() {
            Some("export") => return Ok(Response::new(Body::from(document.export().await?))),
            Some("import") => {
                let bytes = request.body().bytes().cloned().unwrap_or_default();
                document.import(&bytes).await?;
            }
            Some("sign") => {
                let signed = document.change(|edit| {
                    let end = edit.text_len("t");
                    edit.insert_text("t", end, " (signed)")?;
                    edit.set("about", "signed", &true)
                });
                signed.await?;
            }
            Some("fail") => {
                let failed = document.change(|edit| {
                    edit.insert_text("t", 0, "lost")?;
                    edit.insert_text("t", 10_000, "behind the end")
                });
                assert!(failed.await.is_err());
            }
            Some("rewrite") => {
                document
                    .change(|edit| {
                        edit.set_text("t", "Dear 🌍 all!");
                        Ok(())
                    })
                    .await?;
            }
            _ => {}
        }
        let json = format!(
            "{} {}",
            document.text("t").await?,
            document.map::<serde_json::Value>("about").await?
        );
        Ok(Response::new(Body::from(json)))
    }
}

#[test]
fn the_server_begins_reads_and_changes_a_document() {
    block_on(async {
        let room = TestRoom::<Yjs<Office>>::new();
        let mut all = vec![Client::new(&room, "ada", 1).await];
        settle(&mut all).await;
        assert_eq!(all[0].text(), "Dear all");
        assert_eq!(room.get("/sign").await.unwrap(), r#"Dear all (signed) {"signed":true}"#);
        settle(&mut all).await;
        assert_eq!(all[0].text(), "Dear all (signed)");
        room.crash().await;
        assert_eq!(room.get("/fail").await.unwrap(), r#"Dear all (signed) {"signed":true}"#);
        assert_eq!(room.get("/rewrite").await.unwrap(), r#"Dear 🌍 all! {"signed":true}"#);
    });
}

#[test]
fn a_document_is_exported_and_imported() {
    block_on(async {
        let (one, other) = (TestRoom::<Yjs<Office>>::new(), TestRoom::<Yjs>::new());
        let mut ada = Client::new(&one, "ada", 1).await;
        ada.insert(8, " of you").await;
        let export = one.request(get("/export")).await.unwrap();
        let export = export.body().bytes().unwrap().clone();
        assert_eq!(text_of(&export), "Dear all of you");
        drop(other);
        let third = TestRoom::<Yjs<Office>>::new();
        let mut bob = Client::new(&third, "bob", 2).await;
        let mut request = Request::new(Body::from(export));
        *request.uri_mut() = "/parties/main/test/import".parse().unwrap();
        assert_eq!(third.request(request).await.unwrap().status(), 200);
        bob.hear().await;
        assert_eq!(bob.text(), "Dear all of you");
    });
}

fn get(path: &str) -> Request {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = format!("/parties/main/test{path}").parse().unwrap();
    request
}

#[test]
fn a_change_is_saved_a_while_later_and_once() {
    block_on(async {
        let room = TestRoom::<Yjs<Office>>::new();
        let mut ada = Client::new(&room, "ada", 1).await;
        ada.insert(0, "1").await;
        room.hibernate().await.unwrap();
        ada.insert(0, "2").await;
        room.advance(Duration::from_millis(1_900)).await;
        assert_eq!(room.stored::<u32>("saved").await, None);
        room.crash().await;
        room.advance(Duration::from_millis(200)).await;
        assert_eq!(room.stored::<u32>("saved").await, Some(1));
        assert_eq!(room.stored::<String>("text").await.unwrap(), "21Dear all");
        room.advance(Duration::from_secs(60)).await;
        assert_eq!(room.stored::<u32>("saved").await, Some(1));
    });
}

/// What the server changes counts as a change, and a request sees what a document begins with.
#[test]
fn a_change_of_the_server_is_saved_too() {
    block_on(async {
        let room = TestRoom::<Yjs<Office>>::new();
        assert_eq!(room.get("/").await.unwrap(), "Dear all {}");
        room.advance(Duration::from_secs(60)).await;
        assert_eq!(room.stored::<u32>("saved").await, None);
        room.get("/sign").await.unwrap();
        room.advance(Duration::from_secs(60)).await;
        assert_eq!(room.stored::<u32>("saved").await, Some(1));
    });
}

#[test]
fn who_may_only_look_changes_nothing_and_shows_its_cursor() {
    block_on(async {
        let room = TestRoom::<Yjs<Office>>::new();
        let mut all =
            vec![Client::new(&room, "ada", 1).await, Client::new(&room, "guest", 2).await];
        settle(&mut all).await;
        all[1].insert(0, "graffiti ").await;
        all[1].move_to(r#"{"at":1}"#).await;
        settle(&mut all).await;
        assert_eq!(all[0].text(), "Dear all");
        assert_eq!(all[0].sees(), [(1, "{}"), (2, r#"{"at":1}"#)]);
        all[1].connection.send("__YPS:hey").await;
        let heard = all[0].connection.received();
        assert_eq!(heard[0].as_text(), Some("__YPS:all: hey"));
    });
}
