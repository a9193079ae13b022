//! What handlers say when they begin, in a file that no kill takes away. It is no part of the store, so it
//! tells of those attempts, too, that have left nothing there.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::OnceLock,
};

use partykit::BoxError;
use serde::{Deserialize, Serialize};

use super::Broken;

/// What the first pause after a death or a failure is at least, in milliseconds. Each one is twice as long.
const FIRST: u64 = 2_000;

/// The longest pause after a death.
const LONGEST: u64 = 300_000;

/// By what a pause may seem shorter: it is counted by one clock, and seen by another.
const CLOCKS: u64 = 50;

static FILE: OnceLock<File> = OnceLock::new();

/// A handler has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) room: String,
    pub(super) lap: u32,
    pub(super) scheduled: u64,
    pub(super) began: u64,
    pub(super) retries: u32,
    pub(super) deaths: u32,
}

/// Opens the file for this process.
pub(super) fn open(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    FILE.set(file).map_err(|_| io::Error::other("it is open"))
}

/// Adds a line, by one write: it is there as a whole or not at all when the process is killed.
pub(super) fn say(line: &Line) -> Result<(), BoxError> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    let mut file = FILE.get().ok_or("no witness")?;
    Ok(file.write_all(text.as_bytes())?)
}

/// All lines.
pub(super) fn read(path: &Path) -> Result<Vec<Line>, BoxError> {
    let text = fs::read_to_string(path)?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// Attempts that were made too early: before the alarm's time, or before the pause was over that follows a
/// death and a failure.
pub(super) fn early(lines: &[Line]) -> Vec<Broken> {
    let mut last: HashMap<(&str, u32), &Line> = HashMap::new();
    let mut found = Vec::new();
    for line in lines {
        let mut due = line.scheduled;
        if let Some(before) = last.insert((&line.room, line.lap), line) {
            due = due.max(before.began + pause(before, line));
        }
        if line.began + if due == line.scheduled { 0 } else { CLOCKS } < due {
            let how = format!("lap {} began {} ms early", line.lap, due - line.began);
            found.push(Broken { room: line.room.clone(), how });
        }
    }
    found
}

/// How long an alarm is left alone between two attempts, at least.
fn pause(before: &Line, after: &Line) -> u64 {
    let doubled = |times: u32| FIRST << times.saturating_sub(1).min(20);
    let died = after.deaths > before.deaths;
    let failed = after.retries > before.retries;
    let died = if died { doubled(after.deaths).min(LONGEST) } else { 0 };
    died.max(if failed { doubled(after.retries) } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(began: u64, retries: u32, deaths: u32) -> Line {
        Line { room: "a".into(), lap: 1, scheduled: 10_000, began, retries, deaths }
    }

    #[test]
    fn an_attempt_before_its_time_is_found() {
        assert!(early(&[line(10_000, 0, 0)]).is_empty());
        assert_eq!(early(&[line(9_999, 0, 0)]).len(), 1);
    }

    #[test]
    fn an_attempt_within_its_pause_is_found() {
        let first = line(10_000, 0, 0);
        assert!(early(&[first.clone(), line(12_000, 0, 1), line(16_000, 0, 2)]).is_empty());
        assert_eq!(early(&[first.clone(), line(11_000, 0, 1)]).len(), 1, "after a death");
        assert_eq!(early(&[first.clone(), line(11_000, 1, 0)]).len(), 1, "after a failure");
        assert_eq!(early(&[first, line(13_000, 0, 2)]).len(), 1, "the second pause is longer");
    }
}
