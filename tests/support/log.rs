//! What the servers of a test log. A test and its server run on one thread, so each thread has its own.

use std::{cell::RefCell, io, sync::Once};

thread_local! {
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Collects what is logged from now on. To be called before anything logs: a place in the code that has
/// logged to nobody may be remembered as one that nobody wants to hear of.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(|| Writer)
            .init();
    });
}

/// Forgets what this thread has logged.
pub(crate) fn clear() {
    LOG.with_borrow_mut(Vec::clear);
}

/// What this thread has logged.
pub(crate) fn lines() -> Vec<String> {
    LOG.with_borrow(|log| String::from_utf8_lossy(log).lines().map(Into::into).collect())
}

struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
