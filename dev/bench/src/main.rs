//! The bench with the system's allocator. See the crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    partykit_bench::main(None)
}
