//! Rooms that are documents, with clients that do what the providers do.
#![allow(missing_docs)]

mod awareness;
mod client;
mod documents;
mod hostile;
mod limits;
mod transparent;
