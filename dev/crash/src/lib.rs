//! Kills a server over and over, by SIGKILL or by a power loss, and checks that it kept its word.

#![forbid(unsafe_code)]

mod arguments;
mod copies;
mod crowd;
mod desk;
mod failing;
mod handover;
mod history;
mod model;
mod options;
mod power;
mod process;
mod protocol;
mod recovery;
mod run;
mod schedules;
mod script;
mod server;
mod soak;

pub use failing::{Lives, lives, short_life};
pub use history::Violation;
pub use model::{Life, ModelPlan, ModelReport, live, model};
pub use options::{Command, HELP, parse};
pub use power::{Loss, scribe, self_test, shim};
pub use recovery::{Recovered, Recovery, Whose, logs, recover};
pub use run::{Plan, Report, run};
pub use schedules::{Timetables, run_timetables, timetables};
pub use server::{Fault, Storing, serve};
pub use soak::{Soak, bells, soak};
