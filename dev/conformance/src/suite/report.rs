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
#[allow(clippy::exhaustive_structs, reason = "a case has a name and a verdict")]
pub struct Outcome {
    /// The case's name.
    pub name: &'static str,
    /// How it went.
    pub verdict: Verdict,
}

/// What is to be said of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "there is no fourth way")]
pub enum Verdict {
    /// All is as it has to be.
    Passed,
    /// Something is not.
    Failed(String),
    /// The target's [`Control`](super::Control) cannot do what the case needs.
    Skipped(&'static str),
}

impl From<()> for Verdict {
    fn from((): ()) -> Self {
        Self::Passed
    }
}

impl From<Result<(), Cannot>> for Verdict {
    fn from(result: Result<(), Cannot>) -> Self {
        result.map_or_else(|Cannot(what)| Self::Skipped(what), |()| Self::Passed)
    }
}

/// What the target's control cannot do.
#[derive(Debug)]
pub(super) struct Cannot(pub(super) &'static str);

impl Report {
    /// A report about these cases, with what came out of those that ran.
    pub fn new(cases: &[Case], outcomes: Vec<Outcome>) -> Self {
        Self { listed: cases.iter().map(|case| case.name).collect(), outcomes }
    }

    /// Whether there are cases, and every one that is listed has passed: none failed, none was skipped,
    /// none is missing. A runtime whose control can do less compares [`Report::skipped`] with what it
    /// knows that it cannot.
    pub fn is_passed(&self) -> bool {
        let passed = self.outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Passed);
        !self.listed.is_empty() && self.missing().is_empty() && passed.count() == self.listed.len()
    }

    /// How many cases ran to a verdict, skipped ones not counted.
    pub fn ran(&self) -> usize {
        self.outcomes.len() - self.skipped().count()
    }

    /// The names of the cases that passed.
    pub fn passed(&self) -> impl Iterator<Item = &'static str> {
        self.named(|verdict| *verdict == Verdict::Passed)
    }

    /// The names of the cases that failed.
    pub fn failed(&self) -> impl Iterator<Item = &'static str> {
        self.named(|verdict| matches!(verdict, Verdict::Failed(_)))
    }

    /// The names of the cases that were skipped.
    pub fn skipped(&self) -> impl Iterator<Item = &'static str> {
        self.named(|verdict| matches!(verdict, Verdict::Skipped(_)))
    }

    /// The cases that are listed and did not run.
    pub fn missing(&self) -> Vec<&'static str> {
        let ran = |name: &&&str| !self.outcomes.iter().any(|outcome| outcome.name == **name);
        self.listed.iter().filter(ran).copied().collect()
    }

    fn named(&self, is: impl Fn(&Verdict) -> bool) -> impl Iterator<Item = &'static str> {
        self.outcomes.iter().filter(move |it| is(&it.verdict)).map(|outcome| outcome.name)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Outcome { name, verdict } in &self.outcomes {
            match verdict {
                Verdict::Passed => writeln!(f, "ok      {name}")?,
                Verdict::Failed(failure) => writeln!(f, "FAILED  {name}: {failure}")?,
                Verdict::Skipped(what) => writeln!(f, "skipped {name}: no {what}")?,
            }
        }
        for name in self.missing() {
            writeln!(f, "MISSING {name}")?;
        }
        let (listed, ran, failed) = (self.listed.len(), self.ran(), self.failed().count());
        writeln!(f, "{ran} of {listed} cases ran, {failed} failed")
    }
}
