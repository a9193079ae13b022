//! Runs a Worker on this machine, in `workerd`, the program that Cloudflare runs them in, and puts its
//! rooms to sleep when told.
//!
//! ```no_run
//! use partykit_workerd::{Project, Workerd};
//!
//! # fn main() -> Result<(), partykit_workerd::Error> {
//! // After `cargo xtask workers build relay`.
//! let workerd = Workerd::start(&Project::open("examples/relay")?.party("main", "Relay"))?;
//! println!("{}/parties/main/lobby", workerd.url());
//! workerd.evict("main", "lobby")?;
//! # Ok(())
//! # }
//! ```
//!
//! `workerd` comes from npm: `cargo xtask setup` installs it beside this crate, where [`Workerd`] finds it.
#![forbid(unsafe_code)]

mod capnp;
mod error;
mod life;
mod log;
mod project;
mod workerd;

pub use error::Error;
pub use life::Life;
pub use log::Log;
pub use project::{Object, Project};
pub use workerd::Workerd;
