//! Rooms for tests: a virtual clock, connections without sockets, and sleep, crash and time on command.
//!
//! [`TestRoom`] runs a real room, with the same code as in every runtime, but without a runtime. It works
//! under any executor.
//!
//! ```
//! use partykit_core::{Connection, Message, Options, Result, Room, Server, testing::TestRoom};
//!
//! #[derive(Default)]
//! struct Relay;
//!
//! impl Server for Relay {
//!     fn options() -> Options {
//!         Options::new().hibernate(true)
//!     }
//!
//!     async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
//!         room.broadcast(message).except(sender).send();
//!         Ok(())
//!     }
//! }
//!
//! # futures_executor::block_on(async {
//! let room = TestRoom::<Relay>::new();
//! let ada = room.connect("ada").await;
//! let grace = room.connect("grace").await;
//! room.hibernate().await.unwrap();
//!
//! ada.send("hello").await;
//! assert_eq!(grace.received(), [Message::from("hello")]);
//! assert_eq!(ada.received(), []);
//! # });
//! ```

mod alarm;
#[doc(hidden)]
pub mod bare;
mod builder;
mod client;
mod faulty;
mod host;
mod room;
mod step;
mod stories;
mod transparency;
mod wrapped;

pub use alarm::alarm_batch;
pub use builder::TestRoomBuilder;
pub use client::{NotConnected, TestConnection};
pub use faulty::FaultyBackend;
pub use room::TestRoom;
pub use step::Step;
pub use stories::{Story, transparency_random};
pub use transparency::{Difference, transparency};
pub use wrapped::WrappedBackend;
