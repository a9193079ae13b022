//! Every server of the README, of the guide and of those examples that are only binaries: as it stands there,
//! taken out by `build.rs`. The tests try each of them.
#![allow(
    clippy::all,
    clippy::unused_async,
    dead_code,
    missing_debug_implementations,
    missing_docs,
    private_interfaces,
    unreachable_pub,
    unused_imports,
    reason = "written for readers of the guide"
)]
#![forbid(unsafe_code)]

include!(concat!(env!("OUT_DIR"), "/servers.rs"));
