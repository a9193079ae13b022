#![no_main]

use std::panic;

// As in `document`: yrs may panic at forged updates, and that is caught.
libfuzzer_sys::fuzz_target!(
    init: panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| {
        if let Err(fault) = panic::catch_unwind(|| partykit_yjs::fuzzing::frame(bytes)) {
            let text = fault.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| fault.downcast_ref::<&str>().copied());
            eprintln!("{}", text.unwrap_or("it panicked"));
            std::process::abort();
        }
    }
);
