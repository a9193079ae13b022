use std::fmt;

use super::Case;

/// How a run of the suite went.
///
/// Prints as a line for each case and a last one that counts them.
#[derive(Clone, Debug)]
pub struct Report {
    listed: Vec<&'static str>,
    outcomes: Vec<Outcome>,
}

/// How one case went.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a case has a name and passes or fails")]
pub struct Outcome {
    /// The case's name.
    pub name: &'static str,
    /// What it said, if it failed.
    pub failure: Option<String>,
}

impl Report {
    /// A report about these cases, with what came out of those that ran.
    pub fn new(cases: &[Case], outcomes: Vec<Outcome>) -> Self {
        Self { listed: cases.iter().map(|case| case.name).collect(), outcomes }
    }

    /// Whether every listed case ran, there are any, and none failed.
    pub fn is_passed(&self) -> bool {
        !self.listed.is_empty() && self.missing().is_empty() && self.failures().next().is_none()
    }

    /// How many cases ran.
    pub fn ran(&self) -> usize {
        self.outcomes.len()
    }

    /// The cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| outcome.failure.is_some())
    }

    /// The cases that are listed and did not run.
    pub fn missing(&self) -> Vec<&'static str> {
        let ran = |name: &&&str| !self.outcomes.iter().any(|outcome| outcome.name == **name);
        self.listed.iter().filter(ran).copied().collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Outcome { name, failure } in &self.outcomes {
            match failure {
                None => writeln!(f, "ok      {name}")?,
                Some(failure) => writeln!(f, "FAILED  {name}: {failure}")?,
            }
        }
        for name in self.missing() {
            writeln!(f, "MISSING {name}")?;
        }
        let (listed, ran, failed) = (self.listed.len(), self.ran(), self.failures().count());
        writeln!(f, "{ran} of {listed} cases ran, {failed} failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &[Case] = &[
        Case { name: "one", run: |_| Box::pin(async {}) },
        Case { name: "two", run: |_| Box::pin(async {}) },
    ];

    fn outcome(name: &'static str, failure: Option<&str>) -> Outcome {
        Outcome { name, failure: failure.map(Into::into) }
    }

    #[test]
    fn all_have_to_run_and_pass() {
        let both = vec![outcome("one", None), outcome("two", None)];
        assert!(Report::new(CASES, both).is_passed());
        let one = Report::new(CASES, vec![outcome("two", None)]);
        assert!(!one.is_passed());
        assert_eq!(one.missing(), ["one"]);
        let failed = vec![outcome("one", None), outcome("two", Some("no"))];
        assert!(!Report::new(CASES, failed).is_passed());
        assert!(!Report::new(&[], Vec::new()).is_passed(), "nothing ran");
    }

    #[test]
    fn it_reads_as_a_list() {
        let report = Report::new(CASES, vec![outcome("two", Some("no"))]);
        let text = "FAILED  two: no\nMISSING one\n1 of 2 cases ran, 1 failed\n";
        assert_eq!(report.to_string(), text);
    }
}
