use std::panic;

use partykit_core::{Connection, Message, Options, Result, Room, Server};
use partykit_runtime_tokio::Runtime;

use crate::{
    support::{Client, serve},
    witness::{Echo, Witness},
};

/// Adds numbers up in storage, and panics at some of them, after the write.
#[derive(Default)]
struct Shaky;

impl Server for Shaky {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        let number: u64 = message.as_text().unwrap_or_default().parse()?;
        let mut sum: u64 = room.storage().get("sum").await?.unwrap_or_default();
        sum = sum.wrapping_mul(31).wrapping_add(number);
        room.storage().put("sum", &sum)?;
        sender.send(sum.to_string());
        if panics(number) {
            panic!("a deliberate panic");
        }
        Ok(())
    }
}

/// What is said in another room comes back as it was said.
async fn keeps_order(mut client: Client) {
    for chunk in 0..100 {
        for n in 0..20 {
            client.send(&format!("{chunk} {n}")).await;
        }
        for n in 0..20 {
            assert_eq!(client.text().await, format!("{chunk} {n}"));
        }
    }
}

/// One in ten, without a pattern.
fn panics(number: u64) -> bool {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32 & 0xFFFF < 6554
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_10_ten_thousand_events_with_a_panic_in_a_tenth() {
    const EVENTS: u64 = 10_000;

    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !info.payload_as_str().is_some_and(|text| text.contains("deliberate")) {
            report(info);
        }
    }));
    let site = serve(Runtime::builder().party::<Echo>("echo").party::<Shaky>("shaky")).await;
    let mut witness = Witness::of(&site).await;
    let mut shaky = site.connect("/parties/shaky/a").await;
    let attack = async {
        let (mut sum, mut failed) = (0u64, 0);
        for chunk in 0..EVENTS / 100 {
            let numbers = chunk * 100..chunk * 100 + 100;
            for number in numbers.clone() {
                shaky.send(&number.to_string()).await;
            }
            for number in numbers {
                if panics(number) {
                    failed += 1;
                    continue;
                }
                sum = sum.wrapping_mul(31).wrapping_add(number);
                assert_eq!(shaky.text().await, sum.to_string(), "storage is not the model's");
            }
        }
        failed
    };
    let neighbour = site.connect("/parties/echo/b").await;
    let both = async { tokio::join!(attack, keeps_order(neighbour)) };
    let (failed, ()) = witness.during(both).await;
    assert!((900..1100).contains(&failed), "{failed} panics");
    let stats = site.handle.room_stats("shaky", "a").unwrap();
    assert_eq!(stats.connections, 1, "the connection stays");
    witness.is_alone().await;
}
