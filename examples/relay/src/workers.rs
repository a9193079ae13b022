//! The relay as a Worker: `cargo xtask workers build relay`.

use crate::Relay;

partykit::workers::export! { Relay as "main" }
