use partykit::{
    Close, Connection, List, Message, Request, Response, ResponseExt, Result, Room, Server,
    StartReason,
};

#[derive(Default)]
struct Guestbook;

impl Server for Guestbook {
    async fn on_start(&mut self, room: &Room) -> Result {
        if room.start_reason() == StartReason::First {
            room.storage().put("opened", &room.now().as_millis())?;
        }
        Ok(())
    }

    async fn on_connect(&mut self, room: &Room, connection: &Connection, _: &Request) -> Result {
        let latest = List::new().prefix("entry:").reverse().limit(20);
        connection.send_json(&room.storage().list::<String>(latest).await?)?;
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        room.storage().append("entry:", message.text()?).await?; // the next key, in order
        room.broadcast(message).send(); // leaves when the entry is stored
        sender.set_state(&"has signed")?; // survives every sleep
        Ok(())
    }

    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        Ok(Response::text(format!("{} are here\n", room.count())))
    }

    async fn on_close(&mut self, room: &Room, _: &Connection, close: Close) -> Result {
        room.broadcast(format!("a client left: {close}")).send();
        Ok(())
    }
}
