//! The bench with jemalloc: which of its servers are measured with.
//!
//! A package of its own: jemalloc takes minutes to compile, and only `cargo xtask bench` needs it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use partykit::Result;
use tikv_jemalloc_ctl::{epoch, stats, stats_print};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    partykit_bench::main(Some(partykit_bench::Jemalloc { heap, counts }))
}

fn heap() -> Result<[usize; 3]> {
    epoch::advance()?;
    Ok([stats::allocated::read()?, stats::active::read()?, stats::resident::read()?])
}

fn counts() -> Result<Vec<u8>> {
    epoch::advance()?;
    let mut text = Vec::new();
    let mut options = stats_print::Options::default();
    (options.json_format, options.skip_per_arena) = (true, true);
    options.skip_mutex_statistics = true;
    stats_print::stats_print(&mut text, options)?;
    Ok(text)
}
