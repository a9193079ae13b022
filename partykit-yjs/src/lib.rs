//! Rooms that are [Yjs](https://yjs.dev) documents, for the crate `partykit`: what `y-partyserver` is for
//! PartyServer.
//!
//! ```
//! use partykit_core::{Server, testing::TestRoom};
//! use partykit_yjs::Yjs;
//!
//! // With a runtime: `Runtime::builder().party::<Yjs>("documents")`.
//! # futures_executor::block_on(async {
//! let room = TestRoom::<Yjs>::new();
//! let ada = room.connect("ada").await;
//! assert_eq!(ada.received()[0].as_bytes(), [0, 0, 1, 0], "what the room has: nothing");
//! # });
//! ```
//!
//! * Every change is stored before another client hears of it.
//! * A room sleeps while its clients are connected and do not type. The next change is stored and passed on
//!   without reading the document.
//! * A change goes to each other client once. So do cursors, which stay as long as their connections.
//! * A client that sends something that is not Yjs changes nothing, and does not stop the others.
//!
//! Clients are `y-partyserver/provider`, and `y-websocket` with the room's address.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod book;
mod collect;
mod crowd;
mod document;
mod edit;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
mod replica;
mod rows;
mod scan;
mod server;
mod subdocs;
mod wire;

pub use document::{Document, DocumentError};
pub use edit::{Edit, EditError};
pub use server::{YServer, Yjs};

use partykit_core::Message;

/// A message for the `custom-message` event of `y-partyserver/provider`. It is the reverse of
/// `provider.sendMessage`.
///
/// ```
/// let message = partykit_yjs::custom_message("saved");
/// assert_eq!(message.as_text(), Some("__YPS:saved"));
/// ```
pub fn custom_message(text: &str) -> Message {
    Message::from(format!("{}{text}", wire::CUSTOM))
}
