#![no_main]

use std::panic;

// yrs panics at some forged updates, and the room catches that. So only a panic that comes out here is a fault.
libfuzzer_sys::fuzz_target!(
    init: panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| {
        let before = fuzz::frames();
        if let Err(fault) = panic::catch_unwind(|| fuzz::document(bytes)) {
            let text = fault.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| fault.downcast_ref::<&str>().copied());
            eprintln!("{}", text.unwrap_or("it panicked"));
            std::process::abort();
        }
        if before / 100_000 != fuzz::frames() / 100_000 {
            eprintln!("{} frames", fuzz::frames());
        }
    }
);
