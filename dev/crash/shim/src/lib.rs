//! Makes a power loss out of a SIGKILL: to be preloaded (`LD_PRELOAD`) into a process whose data
//! directory is `PARTYKIT_POWER_LOSS_DIR`.
//!
//! A killed process loses nothing that it gave to the kernel, synced or not. So this library stands
//! between the process and the C library, and writes down, in the file `PARTYKIT_POWER_LOSS_LOG`, every
//! change below the directory and every sync, in their order. What a power loss would have left is
//! computed from that log, by safe code with tests: `dev/crash/src/power/disk.rs`.
//!
//! The log is written before a call returns. A kill between two records leaves a log that ends
//! earlier, which is a power loss that came earlier.
//!
//! What it cannot follow it does not allow: a writable shared mapping, a file without a name and the
//! like end the process with a message. What gets past it (a system call without the C library) is
//! found by comparing the directory with the log.
//!
//! It can also let calls fail: see `fault.rs`.
//!
//! The one crate of this repository with `unsafe` in it: the functions that it stands in for take raw
//! pointers, and the callers' promises to those are all there is to rely on.

#![allow(unsafe_code, reason = "replaces functions of the C library, which take raw pointers")]
#![allow(clippy::missing_safety_doc, reason = "the manual page of each says what a caller owes it")]
#![allow(missing_docs, reason = "the manual page of each says what it does")]

#[allow(dead_code, reason = "one side writes what the other one reads")]
mod record;

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod data;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod fault;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod looks;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod names;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod sync;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod watch;
