//! What became of each step, told while it runs and in a table at the end.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use crate::command::Failure;

/// How a step ended that did not fail.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// All that it checks was checked.
    Passed,
    /// What it checked was fine, and the text says what it did not check or did otherwise.
    PassedBut(String),
}

/// What a step returns.
pub(crate) type Outcome = Result<Verdict, Failure>;

/// Runs one step, and says how long it took.
pub(crate) fn timed(step: impl FnOnce() -> Outcome) -> (Duration, Outcome) {
    let started = Instant::now();
    let outcome = step();
    (started.elapsed(), outcome)
}

/// The table of steps, one row each, `not run` until something else is known.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    ended: Option<(Duration, Outcome)>,
}

impl Report {
    pub(crate) fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        Self { rows: names.into_iter().map(|name| Row { name, ended: None }).collect() }
    }

    /// Notes how a step ended, and after which time.
    pub(crate) fn note(&mut self, name: &str, ended: (Duration, Outcome)) {
        if let Err(failure) = &ended.1 {
            eprintln!("\nstep {name} FAILED: {failure}");
        }
        if let Some(row) = self.rows.iter_mut().find(|row| row.name == name) {
            row.ended = Some(ended);
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.rows.iter().any(|row| matches!(row.ended, Some((_, Err(_)))))
    }

    /// How many steps have ended.
    #[cfg(test)]
    pub(crate) fn ended(&self) -> usize {
        self.rows.iter().filter(|row| row.ended.is_some()).count()
    }

    pub(crate) fn print(&self) {
        print!("\n{}{}", self.table(), self.failures());
    }

    /// Why steps failed, again: what they printed may be far above.
    fn failures(&self) -> String {
        let mut failures = String::new();
        for Row { name, ended } in &self.rows {
            if let Some((_, Err(failure))) = ended {
                writeln!(failures, "\nstep {name} FAILED: {failure}")
                    .expect("a String takes every write");
            }
        }
        failures
    }

    fn table(&self) -> String {
        let mut table = String::new();
        for Row { name, ended } in &self.rows {
            let (verdict, took, remark) = match ended {
                None => ("not run", None, ""),
                Some((took, Ok(Verdict::Passed))) => ("passed", Some(took), ""),
                Some((took, Ok(Verdict::PassedBut(but)))) => ("PASSED, BUT", Some(took), &**but),
                Some((took, Err(_))) => ("FAILED", Some(took), ""),
            };
            let took = took.map_or(String::new(), |took| format!("{:.1} s", took.as_secs_f64()));
            let line = format!("{name:<10}{verdict:<13}{took:>8}  {remark}");
            writeln!(table, "{}", line.trim_end()).expect("a String takes every write");
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_all_four_ends_apart() {
        let mut report = Report::new(["a", "b", "c", "d"]);
        report.note("a", timed(|| Ok(Verdict::Passed)));
        report.note("b", timed(|| Ok(Verdict::PassedBut("without x".into()))));
        assert!(!report.has_failed());
        report.note("c", timed(|| Err(Failure::new("broken"))));
        assert!(report.has_failed());
        let table = report.table();
        let words: Vec<_> =
            table.lines().map(|line| line[10..].split("  ").next().unwrap()).collect();
        assert_eq!(words, ["passed", "PASSED, BUT", "FAILED", "not run"]);
        assert_eq!(report.failures(), "\nstep c FAILED: broken\n");
        assert!(table.lines().nth(1).unwrap().ends_with("without x"));
    }
}
