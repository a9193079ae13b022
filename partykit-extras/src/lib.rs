//! What many rooms need, for the crate `partykit`: [presence] (feature `presence`) and [history] (feature
//! `history`). `partykit` has them as `partykit::presence` and `partykit::history`.
//!
//! They are made with the public API alone, and keep nothing in memory that a sleep could lose.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "history")]
pub mod history;
#[cfg(feature = "presence")]
pub mod presence;
