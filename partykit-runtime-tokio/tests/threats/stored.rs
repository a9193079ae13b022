use partykit_core::{Connection, Message, Options, Request, RequestExt, Result, Room, Server};
use partykit_runtime_tokio::Runtime;

use crate::{
    support::serve,
    witness::{Echo, Witness},
};

/// Does what it is told to storage and to its connections' states: `put <bytes of key> <bytes of value>`,
/// `state <bytes>`.
#[derive(Default)]
struct Clerk;

impl Server for Clerk {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    fn connection_tags(&mut self, _: &Room, _: &str, request: &Request) -> Result<Vec<String>> {
        let size = |name: &str| request.query(name).and_then(|n| n.parse().ok()).unwrap_or(0);
        let (tags, length) = (size("tags"), size("length"));
        Ok((0..tags).map(|n: usize| format!("{n:0length$}")).collect())
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        let order: Vec<_> = message.as_text().unwrap_or_default().split(' ').collect();
        let number = |n: usize| order[n].parse::<usize>().unwrap();
        let done = match order[0] {
            "put" => {
                let key = "k".repeat(number(1));
                let put = room.storage().put_bytes(&key, vec![0; number(2)]);
                let back = room.storage().get_bytes(&key).await;
                put.is_ok() && back.is_ok_and(|value| value.is_some_and(|v| v.len() == number(2)))
            }
            "key" => room.storage().put(order[1], &1).is_ok(),
            _ => sender.set_state(&"s".repeat(number(1))).is_ok(),
        };
        sender.send(done.to_string());
        Ok(())
    }
}

#[tokio::test]
async fn threat_11_storage_limits() {
    let site = serve(Runtime::builder().party::<Echo>("echo").party::<Clerk>("clerk")).await;
    let mut witness = Witness::of(&site).await;
    let mut client = site.connect("/parties/clerk/a").await;
    let attack = async {
        for (order, is_done) in [
            ("put 2047 1", true),
            ("put 2048 1", true),
            ("put 2049 1", false),
            ("put 0 1", false),
            ("put 4 1999995", true),
            ("put 4 1999996", true),
            ("put 4 1999997", false),
            ("key \0", true),
            ("key __proto__", true),
            ("key ../../etc/passwd", true),
        ] {
            client.send(order).await;
            assert_eq!(client.text().await, is_done.to_string(), "{order:?}");
        }
    };
    witness.during(attack).await;
    witness.is_alone().await;
}

#[tokio::test]
async fn threat_14_tags_and_states() {
    let site = serve(Runtime::builder().party::<Echo>("echo").party::<Clerk>("clerk")).await;
    let mut witness = Witness::of(&site).await;
    let attack = async {
        // The id is a tag, too.
        let mut client = site.connect("/parties/clerk/a?_pk=me&tags=9&length=256").await;
        for (order, is_done) in [("state 10000", true), ("state 20000", false), ("state 1", true)] {
            client.send(order).await;
            assert_eq!(client.text().await, is_done.to_string(), "{order}");
        }
        for refused in ["tags=10&length=9", "tags=1&length=257"] {
            let mut client = site.connect(&format!("/parties/clerk/a?{refused}")).await;
            assert_eq!(client.closed().await.0, 1011, "{refused}");
        }
        client.send("state 2").await;
        assert_eq!(client.text().await, "true");
    };
    witness.during(attack).await;
    witness.is_alone().await;
}
