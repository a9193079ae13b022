use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::error::Fault;

/// Calls the tree, which panics on some damaged files.
pub(super) fn guarded<T>(call: impl FnOnce() -> lsm_tree::Result<T>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => Ok(result?),
        Err(payload) => {
            let what = payload.downcast_ref::<String>().map(String::as_str);
            let what = what.or_else(|| payload.downcast_ref::<&str>().copied());
            Err(Fault::damage(format!("the tree failed: {}", what.unwrap_or("unknown"))))
        }
    }
}

/// Calls what may call the tree without [`guarded`]. A panic in it is a failure of the store, which is then
/// opened again, as after an error.
pub(super) fn caught<T>(call: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    let done = catch_unwind(AssertUnwindSafe(call));
    done.unwrap_or_else(|payload| Err(Fault::panic(&*payload)))
}

/// Calls the tree without its own log lines. What goes wrong comes back as an error.
pub(super) fn quietly<T>(call: impl FnOnce() -> T) -> T {
    tracing::dispatcher::with_default(&tracing::Dispatch::none(), call)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
