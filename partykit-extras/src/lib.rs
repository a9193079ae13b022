//! What many rooms need, for the crate `partykit`: [presence] (feature `presence`), which `partykit` has as
//! `partykit::presence`.
//!
//! It is made with the public API alone, and keeps nothing in memory that a sleep could lose.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "presence")]
pub mod presence;
