//! Rooms with presence and history, with clients that do what pages do.
#![allow(missing_docs)]

#[cfg(feature = "history")]
mod history;
#[cfg(feature = "presence")]
mod phoenix;
#[cfg(feature = "presence")]
mod presence;
