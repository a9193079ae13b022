//! The cases, and what runs them.
//!
//! A case is black box: it speaks HTTP and WebSocket to a [`Target`], and each uses rooms of its own, so
//! that all may run at once, and again on the same server. It panics when something is not as it has to
//! be.

mod cases;
pub mod checklist;
mod clicker;
mod client;
mod http;
mod report;
mod room;
mod target;

pub use cases::CASES;
pub use client::{Client, Frame};
pub use http::Answer;
pub use report::{Outcome, Report, Verdict};

use report::Cannot;
pub use room::{Mode, Room};
pub use target::{Control, HttpControl, RoomView, Target};

use std::{fmt, panic::AssertUnwindSafe};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};

/// How many cases run at once.
const AT_ONCE: usize = 8;

/// One thing that a runtime has to do.
#[allow(clippy::exhaustive_structs, reason = "a row of the table of cases")]
pub struct Case {
    /// Its name, the module's first: `"closing::a_drop_is_1006"`.
    pub name: &'static str,
    /// The case itself. Panics when it fails.
    pub run: for<'a> fn(&'a Target) -> BoxFuture<'a, Verdict>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Case({})", self.name)
    }
}

/// Runs all [`CASES`] against a target.
///
/// ```no_run
/// use partykit_conformance::suite::{Target, run};
///
/// # async fn check() {
/// let report = run(&Target::new("http://127.0.0.1:1999")).await;
/// print!("{report}");
/// assert!(report.is_passed());
/// # }
/// ```
pub async fn run(target: &Target) -> Report {
    run_cases(target, CASES).await
}

/// Runs some of the cases against a target.
pub async fn run_cases(target: &Target, cases: &'static [Case]) -> Report {
    let outcomes = stream::iter(cases).map(|case| run_case(target, case));
    let outcomes = outcomes.buffered(AT_ONCE).collect().await;
    Report::new(cases, outcomes)
}

async fn run_case(target: &Target, case: &'static Case) -> Outcome {
    let verdict = match AssertUnwindSafe((case.run)(target)).catch_unwind().await {
        Ok(verdict) => verdict,
        Err(payload) => Verdict::Failed(match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => payload.downcast::<&str>().map_or("no text".into(), |t| (*t).into()),
        }),
    };
    Outcome { name: case.name, verdict }
}
