//! Measures what a room costs: `cargo xtask bench`.
//!
//! Three servers speak the same protocol, each in a process of its own: **partykit**, **raw** (an epoll
//! loop that does nothing but what it must) and **tungstenite** (what one writes first with
//! tokio-tungstenite; it only echoes). The process that measures is the clients, all of them on one
//! epoll loop, over loopback.
//!
//! Workers are measured apart, `cargo xtask bench --only workers`: the same party in `workerd` beside one
//! of PartyServer's, and beside itself on Tokio.
//!
//! A figure by itself says as much of the machine and of what else it did as of the server. So what
//! counts are ratios, each of two servers that took turns in the same run; a ratio is the median over
//! those turns. Processor time is what the kernel's scheduler counted for the server's threads, memory
//! is what the process alone has (its anonymous pages).
//!
//! What hostile clients cost the others is measured apart too, `cargo xtask bench --only hostile`, beside
//! limits; so is what slow clients get and cost, `--only readers` and `--only deaf`, and what comes when
//! all come at once, `--only herd`, and what clients notice of a deploy, `--only handover`.
//!
//! What has no counterpart in other servers, rooms that sleep and alarms that are not due, is measured
//! beside less of the same.
#![forbid(unsafe_code)]

mod callers;
mod child;
mod client;
mod crowd;
mod heap;
mod measure;
mod namespace;
mod options;
mod protocol;
mod report;
mod server;
mod sleeper;
mod store;

use std::process::ExitCode;

pub use heap::Jemalloc;

/// All of both binaries: they differ in their allocator only. `None` if it is the system's.
pub fn main(jemalloc: Option<Jemalloc>) -> ExitCode {
    if let Some(jemalloc) = jemalloc {
        jemalloc.set();
    }
    match options::parse(std::env::args().skip(1)) {
        Ok(options::Command::Serve(kind)) => finish(server::run(kind).map(|()| true)),
        Ok(options::Command::ServeRooms(directory)) => {
            finish(server::serve_rooms(&directory).map(|()| true))
        }
        Ok(options::Command::ServeHostile(places, port)) => {
            finish(server::serve_hostile(places, port).map(|()| true))
        }
        Ok(options::Command::ServeHandover(directory, port)) => {
            finish(server::serve_handover(&directory, port).map(|()| true))
        }
        Ok(options::Command::Measure(plan)) if plan.is_alone() && !namespace::is_own() => {
            finish(namespace::run_in_own(plan.takes("readers")))
        }
        Ok(options::Command::Measure(plan)) => finish(measure::all(&plan)),
        Err(wrong) => {
            eprintln!("{wrong}\n\n{}", options::HELP);
            ExitCode::from(2)
        }
    }
}

fn finish(outcome: partykit::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the bench failed: {error}");
            ExitCode::FAILURE
        }
    }
}
