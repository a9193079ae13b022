//! A shared board of cards. Each item is one row, which is read when it is needed. A change is a transaction.
//! "Saved" is sent after the commit, so a client can rely on it.
//!
//! Read [`Items`] first: the store. [`Ask`] and [`Event`] are the messages.

mod item;
mod items;
#[cfg(feature = "workers")]
mod page;
mod protocol;
mod requests;
#[cfg(feature = "workers")]
mod workers;

pub use item::{Color, Column, Invalid, Item, ItemId, Place, Text};
pub use items::{Changes, Items, MAX_ITEMS, MAX_PAGE, Page, Refused};
pub use protocol::{Ask, Change, Event};

use partykit::{Close, Connection, Message, Options, Request, Response, Result, Room, Server};

/// The board's server. It has no fields: everything is in storage and is read when needed.
#[derive(Debug, Default)]
pub struct Board;

impl Server for Board {
    /// An item has at most 2,000 bytes of text; no message is much longer.
    fn options() -> Options {
        Options::new().hibernate(true).max_message(16 << 10).max_request_body(16 << 10)
    }

    async fn on_connect(&mut self, room: &Room, _: &Connection, _: &Request) -> Result {
        announce(room)
    }

    /// A wrong request of a client gets an answer and changes nothing. An `Err` of this function is a failure
    /// of the server: then all its writes are undone, and nothing that it sent after a write leaves.
    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        let items = Items::of(room);
        match message.json() {
            Ok(Ask::Page { before, limit }) => {
                let page = items.page(before.as_ref(), limit).await?;
                sender.send_json(&Event::Page { before, page })?;
            }
            Ok(Ask::Change { op, change }) => match items.apply(change).await? {
                Ok(event) => {
                    // Both messages wait for the commit, like everything that is sent after a write.
                    room.broadcast_json(&event)?.send();
                    sender.send_json(&Event::Saved { op })?;
                }
                Err(refused) => sender.send(refusal(Some(op), &refused)?),
            },
            Err(error) => sender.send(refusal(protocol::op(&message), &error)?),
        }
        Ok(())
    }

    async fn on_close(&mut self, room: &Room, _: &Connection, _: Close) -> Result {
        announce(room)
    }

    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        requests::answer(room, &request).await
    }
}

/// Tells all clients how many are here.
fn announce(room: &Room) -> Result {
    room.broadcast_json(&Event::People { count: room.count() })?.send();
    Ok(())
}

fn refusal(op: Option<u64>, reason: &impl ToString) -> Result<Message> {
    Ok(Message::from_json(&Event::Refused { op, reason: reason.to_string() })?)
}
