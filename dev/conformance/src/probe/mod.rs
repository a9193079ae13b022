mod answering;
mod arrival;
mod command;
mod parties;
mod signals;
mod small;
mod starter;
mod storing;
mod switchboard;

pub use arrival::{Arrival, Motto};
pub use command::{Call, Command, Range, Wanted};
pub use parties::{AUTO_REQUEST, AUTO_RESPONSE, Probe, SECRET, STRICT};
pub use small::{SMALL_BODY, SMALL_CONNECTIONS, SMALL_MESSAGE, Small};
pub use starter::Starter;
pub use switchboard::Switchboard;

/// The name under which a runtime serves [`Probe<true>`](Probe): it hibernates.
pub const PROBE: &str = "probe";
/// The name under which a runtime serves [`Probe<false>`](Probe): the same, in memory.
pub const IN_MEMORY: &str = "memory";
/// The name under which a runtime serves [`Starter`].
pub const STARTER: &str = "starter";
/// The name under which a runtime serves [`Small`].
pub const SMALL: &str = "small";
/// The name under which a runtime serves [`Switchboard`].
pub const SWITCHBOARD: &str = "switchboard";
/// The name under which a runtime serves another [`Switchboard`], with the prefix [`ANNEX_PREFIX`], and for
/// pages of [`ANNEX_PAGE`] beside those of its host.
pub const ANNEX: &str = "annex";
/// Where the URLs of [`ANNEX`] begin.
pub const ANNEX_PREFIX: &str = "side/door";
/// An origin whose pages may talk to rooms of [`ANNEX`] and of no other party.
pub const ANNEX_PAGE: &str = "https://annex.example";
/// All names.
pub const PARTIES: &[&str] = &[PROBE, IN_MEMORY, STARTER, SMALL, SWITCHBOARD, ANNEX];
