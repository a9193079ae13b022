//! What a test's servers log. A test and its servers run on one thread, so each thread has its own.

use std::{cell::RefCell, io, sync::Once};

thread_local! {
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Collects what this thread logs from now on, from `debug` up. To be called before anything logs: a place in
/// the code that has logged to nobody may be remembered as one that nobody wants to hear of.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .with_ansi(false)
            .without_time()
            .with_writer(|| Writer)
            .init();
    });
    LOG.with_borrow_mut(Vec::clear);
}

/// What this thread has logged since the last time that somebody asked, line by line.
pub(crate) fn lines() -> Vec<String> {
    let log = LOG.take();
    String::from_utf8_lossy(&log).lines().map(|line| line.trim_start().to_owned()).collect()
}

/// How many of these lines have this level.
pub(crate) fn count(lines: &[String], level: &str) -> usize {
    lines.iter().filter(|line| line.starts_with(level)).count()
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
