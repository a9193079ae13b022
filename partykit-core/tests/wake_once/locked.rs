mod sync {
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

#[path = "../../src/engine/wake_once.rs"]
pub(crate) mod wake_once;
