//! Smoke.
use futures_executor::block_on;
use partykit_core::{testing::*, *};

#[derive(Default)]
struct Counter {
    in_memory: u32,
}

impl Server for Counter {
    fn options() -> Options {
        Options::new().hibernate(true)
    }
    async fn on_start(&mut self, room: &Room) -> Result {
        self.in_memory = room.storage().get("n").await?.unwrap_or(0);
        Ok(())
    }
    async fn on_connect(&mut self, room: &Room, c: &Connection, _: &Request) -> Result {
        c.send("welcome");
        room.broadcast(format!("{} here, {} total", c.id(), room.count())).send();
        Ok(())
    }
    async fn on_message(&mut self, room: &Room, c: &Connection, m: Message) -> Result {
        match m.as_text() {
            Some("panic") => panic!("boom"),
            Some("write+err") => {
                room.storage().put("n", &99)?;
                c.send("lost");
                return Err("no".into());
            }
            Some("err") => {
                c.send("kept");
                return Err("no".into());
            }
            Some("spawn") => {
                room.spawn("t", async { 42u32 });
            }
            Some("sync") => {
                room.storage().put("s", &1)?;
                room.storage().sync().await?;
                c.send("synced");
            }
            _ => {
                self.in_memory += 1;
                room.storage().put("n", &self.in_memory)?;
                room.broadcast(self.in_memory.to_string()).send();
            }
        }
        Ok(())
    }
    async fn on_task(&mut self, room: &Room, r: TaskResult) -> Result {
        room.broadcast(format!("task {}", r.value::<u32>()?)).send();
        Ok(())
    }
    async fn on_error(&mut self, room: &Room, e: HandlerError) -> Result {
        room.broadcast(format!("error {:?} {}", e.kind(), e.handler())).send();
        Ok(())
    }
    async fn on_close(&mut self, room: &Room, c: &Connection, close: Close) -> Result {
        room.broadcast(format!("bye {} {} {}", c.id(), close, room.count())).send();
        Ok(())
    }
}

#[test]
fn smoke() {
    block_on(async {
        let room = TestRoom::<Counter>::new();
        let a = room.connect("a").await;
        let b = room.connect("b").await;
        println!("{:?}", show(a.received()));
        println!("{:?}", show(b.received()));
        for m in ["x", "panic", "x", "write+err", "x", "err", "spawn", "sync"] {
            a.send(m).await;
            println!("{m}: {:?}", show(a.received()));
            println!("   b {:?} {:?}", show(b.received()), room.stats().phase);
        }
        room.hibernate().await.unwrap();
        println!("{:?}", room.stats());
        a.send("x").await;
        println!("{:?}", show(a.received()));
        b.close(4001, "bye").await.unwrap();
        println!("{:?}", show(a.received()));
        room.advance(std::time::Duration::from_secs(30)).await;
        println!("{:?}", room.stats());
        println!("{:?}", room.rows(List::new()).await);
        room.crash().await;
        println!("{:?}", room.stats());
        let steps = [
            Step::connect("ada"),
            Step::say("ada", "one"),
            Step::say("ada", "panic"),
            Step::connect("b"),
            Step::say("b", "spawn"),
        ];
        transparency(|| TestRoomBuilder::new(|_| Counter::default()), &steps).await.unwrap();
    });
}
fn show(m: Vec<Message>) -> Vec<String> {
    m.into_iter().map(|m| m.as_text().unwrap().to_owned()).collect()
}
