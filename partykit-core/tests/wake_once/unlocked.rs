/// A lock that keeps nobody out, and tells when that would have been necessary.
mod sync {
    use std::{
        ops::{Deref, DerefMut},
        sync::{LockResult, PoisonError},
    };

    pub(crate) struct Mutex<T>(loom::sync::Mutex<Option<T>>);

    pub(crate) struct MutexGuard<'a, T>(&'a Mutex<T>, Option<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(Some(value)))
        }

        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            Ok(MutexGuard(self, self.swap(None)))
        }

        fn swap(&self, value: Option<T>) -> Option<T> {
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut held, value)
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.1.as_ref().expect("two are inside")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.1.as_mut().expect("two are inside")
        }
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            self.0.swap(self.1.take());
        }
    }
}

#[path = "../../src/engine/wake_once.rs"]
pub(crate) mod wake_once;
