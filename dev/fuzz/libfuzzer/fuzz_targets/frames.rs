#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| partykit_runtime_tokio::fuzzing::frames(bytes));
