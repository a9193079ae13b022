//! Lets rooms wait until a loop has read all sockets that are ready. So a room handles everything that its
//! clients said meanwhile in one go, and what it says to one client leaves in one write.

use std::{
    cell::RefCell,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use pin_project_lite::pin_project;

thread_local! {
    /// The tasks that wait on this thread. `None` while nothing is gathered.
    static WAITING: RefCell<Option<Vec<Waker>>> = const { RefCell::new(None) };
}

/// Does some work. The [gathered](Gathered) tasks that it wakes on this thread run after it.
pub(crate) fn gather<R>(work: impl FnOnce() -> R) -> R {
    let _end = Gathering(WAITING.replace(Some(Vec::new())));
    work()
}

/// Wakes what waits, also when the work panics.
struct Gathering(Option<Vec<Waker>>);

impl Drop for Gathering {
    fn drop(&mut self) {
        let waiting = WAITING.replace(mem::take(&mut self.0));
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

pin_project! {
    /// A future that is not woken before the [gathering](gather) on this thread has ended.
    pub(crate) struct Gathered<F> {
        waker: Option<(Waker, Waker)>,
        #[pin]
        future: F,
    }
}

/// Has a task wait for the end of a [gathering](gather).
pub(crate) fn gathered<F: Future>(future: F) -> Gathered<F> {
    Gathered { waker: None, future }
}

impl<F: Future> Future for Gathered<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let known = this.waker.take().filter(|(task, _)| task.will_wake(cx.waker()));
        let (_, later) = this.waker.insert(known.unwrap_or_else(|| {
            let task = cx.waker().clone();
            (task.clone(), Waker::from(Arc::new(Later(task))))
        }));
        this.future.poll(&mut Context::from_waker(later))
    }
}

struct Later(Waker);

impl Wake for Later {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // There is nothing to gather on a thread that ends.
        let waits = WAITING.try_with(|waiting| match &mut *waiting.borrow_mut() {
            Some(waiting) => {
                waiting.push(self.0.clone());
                true
            }
            None => false,
        });
        if !waits.unwrap_or(false) {
            self.0.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_gathered_task_is_woken_when_the_gathering_ends() {
        let count = Arc::<Count>::default();
        let woken = || count.0.load(Ordering::Relaxed);
        let waker = Waker::from(count.clone());
        let mut inner = None;
        let mut task = Box::pin(gathered(poll_fn(|cx| {
            inner = Some(cx.waker().clone());
            Poll::<()>::Pending
        })));
        assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(task);
        let inner = inner.unwrap();
        inner.wake_by_ref();
        assert_eq!(woken(), 1, "nothing is gathered");
        gather(|| {
            inner.wake_by_ref();
            assert_eq!(woken(), 1);
        });
        assert_eq!(woken(), 2);
        let panicked = std::panic::catch_unwind(|| {
            gather(|| {
                inner.wake_by_ref();
                panic!("as a handler may");
            })
        });
        assert!(panicked.is_err());
        assert_eq!(woken(), 3, "it is not forgotten");
        inner.wake();
        assert_eq!(woken(), 4);
    }
}
