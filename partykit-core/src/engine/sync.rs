//! The lock of [`wake_once`](crate::wake_once), which its tests replace: by one that a model checker
//! schedules, and by one that does not lock.

pub(crate) use std::sync::{Mutex, MutexGuard};
