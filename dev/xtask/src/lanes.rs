//! Runs steps: by themselves, or all of them in three lanes.
//!
//! A step that runs servers and clients leaves much of two cores unused, and so does the end of every build. No step may
//! change what those of another lane read: `cargo hack --no-dev-deps`, for example, takes lines out of every manifest
//! while it runs.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use crate::{
    command,
    report::{Report, timed},
    steps::{self, COMPILING, FIRST, LAST, RUNNING, Step, TESTING},
};

/// Runs these, one after the other. A failure ends the run unless it `keeps_going`.
pub(crate) fn only(root: PathBuf, keeps_going: bool, steps: &[&'static Step]) -> ExitCode {
    let run = Run::of(root, keeps_going, steps.iter().copied());
    run.lane(steps.iter().copied());
    run.end()
}

/// Runs every step.
pub(crate) fn all(root: PathBuf, keeps_going: bool) -> ExitCode {
    let run = Run::of(root, keeps_going, steps::all());
    run.lane(FIRST);
    thread::scope(|scope| {
        let run = &run;
        // What programs say at once cannot be read: the commands of these lanes speak when they have ended.
        for steps in [RUNNING, COMPILING] {
            scope.spawn(move || command::apart(|| run.lane(steps)));
        }
        run.lane(TESTING);
    });
    run.lane(LAST);
    run.end()
}

/// A run of steps.
#[derive(Debug)]
struct Run {
    root: PathBuf,
    keeps_going: bool,
    report: Mutex<Report>,
}

impl Run {
    fn of(root: PathBuf, keeps_going: bool, steps: impl Iterator<Item = &'static Step>) -> Self {
        Self { root, keeps_going, report: Mutex::new(Report::new(steps.map(|step| step.name))) }
    }

    fn lane(&self, steps: impl IntoIterator<Item = &'static Step>) {
        for step in steps {
            if self.report().has_failed() && !self.keeps_going {
                break;
            }
            println!("\n==> {}", step.name);
            let ended = timed(|| (step.run)(&self.root));
            self.report().note(step.name, ended);
        }
    }

    fn end(self) -> ExitCode {
        let report = self.report.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.print();
        if report.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::report::Verdict;

    const PASSES: Step = Step { name: "passes", about: "", run: |_| Ok(Verdict::Passed) };
    const FAILS: Step =
        Step { name: "fails", about: "", run: |_| Err(command::Failure::new("broken")) };

    #[test]
    fn a_failure_ends_the_run_unless_it_shall_go_on() {
        for (keeps_going, ran) in [(false, 1), (true, 2)] {
            let steps = [&FAILS, &PASSES];
            let run = Run::of(".".into(), keeps_going, steps.into_iter());
            run.lane(steps);
            assert_eq!(run.report().ended(), ran);
            assert_eq!(format!("{:?}", run.end()), format!("{:?}", ExitCode::FAILURE));
        }
    }

    #[test]
    fn no_two_steps_have_one_name() {
        let names: BTreeSet<_> = steps::all().map(|step| step.name).collect();
        assert_eq!(names.len(), steps::all().count());
    }
}
