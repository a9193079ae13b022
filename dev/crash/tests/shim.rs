//! The power loss itself, before anything is judged by it.

#![cfg(target_os = "linux")]

use std::path::Path;

use partykit_crash::{self_test, shim};

const PROGRAM: &str = env!("CARGO_BIN_EXE_partykit-crash");

#[test]
fn the_shim_loses_what_was_not_synced_and_nothing_else() {
    self_test(Path::new(PROGRAM), &shim().unwrap()).unwrap();
}

#[test]
fn a_library_that_is_not_the_shim_does_not_pass() {
    let other = Path::new(PROGRAM).with_file_name("no-such-library.so");
    let why = self_test(Path::new(PROGRAM), &other).unwrap_err();
    assert!(why.contains("an unsynced write is lost"), "{why}");
}
