//! What the heap has when nothing happens any more.

use peak_alloc::PeakAlloc;
use tokio::task::yield_now;

/// The heap's bytes when everything sleeps, as `is_asleep` says, and nothing changes any more.
pub(crate) async fn at_rest(heap: &PeakAlloc, is_asleep: impl Fn() -> bool) -> usize {
    loop {
        let (mut before, mut same) = (0, 0);
        while same < 2000 {
            yield_now().await;
            let now = heap.current_usage();
            same = if now == before { same + 1 } else { 0 };
            before = now;
        }
        if is_asleep() {
            return before;
        }
    }
}
