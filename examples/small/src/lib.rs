//! Four small servers, as they stand in the guide (`docs/src/small.md`). None of them knows in which runtime
//! it runs.

mod chat;
mod poll;
mod presence;
mod webhook;

pub use chat::Chat;
pub use poll::Poll;
pub use presence::Presence;
pub use webhook::Webhook;
