use std::{
    fmt,
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// What `workerd` and the Worker in it have said, line by line.
#[derive(Clone, Default)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    lines: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Log {
    /// All lines until now.
    pub fn lines(&self) -> Vec<String> {
        self.inner.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a line holds this text, and returns the line; `None` when none does in time. A line
    /// that is there already counts.
    pub fn wait_for(&self, text: &str, time: Duration) -> Option<String> {
        let until = Instant::now() + time;
        let mut lines = self.inner.lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = lines.iter().find(|line| line.contains(text)) {
                return Some(line.clone());
            }
            let left = until.checked_duration_since(Instant::now())?;
            let waited = self.inner.changed.wait_timeout(lines, left);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes in what comes from `source` until it ends, on a thread; each line is also printed to
    /// standard error when it is to be `echoed`.
    pub fn follow(&self, source: impl Read + Send + 'static, echoed: bool) {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if echoed {
                    eprintln!("{line}");
                }
                let mut lines = log.inner.lines.lock().unwrap_or_else(PoisonError::into_inner);
                lines.push(line);
                log.inner.changed.notify_all();
            }
        });
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lines()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_waited_for_and_one_that_never_comes_is_missed() {
        let log = Log::default();
        log.follow(&b"one\ntwo\n"[..], false);
        assert_eq!(log.wait_for("tw", Duration::from_secs(20)).as_deref(), Some("two"));
        assert_eq!(log.lines(), ["one", "two"]);
        assert_eq!(log.wait_for("three", Duration::ZERO), None);
    }
}
