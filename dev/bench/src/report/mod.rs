//! What was measured, as tables: ratios first.

mod part;

use std::{
    borrow::Cow,
    fmt::{self, Write},
    fs,
    process::Command,
    thread,
};

pub(crate) use part::Part;

use crate::{
    measure::{
        Sizes,
        commits::{Contestant, ROOMS},
    },
    server::Kind,
};

/// All figures of a run.
#[derive(Debug)]
pub(crate) struct Report {
    part: Part,
    figures: Vec<Figure>,
    commits: Vec<Commits>,
    claims: Vec<Claim>,
    latencies: Vec<(&'static str, Latencies)>,
}

/// How many commits a second there were, and how many milliseconds one took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latencies {
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// Commits a second of one who writes, turn by turn.
#[derive(Debug)]
struct Commits {
    measure: &'static str,
    contestant: Contestant,
    values: Vec<f64>,
}

/// One measure, with the values of each server of the part, in the order of their turns.
#[derive(Debug)]
struct Figure {
    measure: &'static str,
    values: Vec<Vec<f64>>,
}

/// A ratio, or what else has a goal.
#[derive(Debug)]
struct Claim {
    measure: Cow<'static, str>,
    beside: &'static str,
    /// One for each turn.
    values: Vec<f64>,
    goal: Option<Goal>,
}

/// What a median should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(goal) => value >= goal,
            Self::AtMost(goal) => value <= goal,
            Self::Below(goal) => value < goal,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(goal) => write!(f, "≥ {goal}"),
            Self::AtMost(goal) => write!(f, "≤ {goal}"),
            Self::Below(goal) => write!(f, "< {goal}"),
        }
    }
}

impl Report {
    pub(crate) fn new(part: Part) -> Self {
        Self {
            part,
            figures: Vec::new(),
            commits: Vec::new(),
            claims: Vec::new(),
            latencies: Vec::new(),
        }
    }

    /// A value of a server, from its turn.
    pub(crate) fn record(&mut self, measure: &'static str, kind: Kind, value: f64) {
        let known = self.figures.iter().position(|figure| figure.measure == measure);
        let at = known.unwrap_or_else(|| {
            let values = vec![Vec::new(); self.part.servers().len()];
            self.figures.push(Figure { measure, values });
            self.figures.len() - 1
        });
        self.figures[at].values[self.part.column(kind)].push(value);
    }

    /// The ratio of the part's own server to another, turn by turn.
    pub(crate) fn compare(&mut self, measure: &'static str, beside: Kind, goal: Option<Goal>) {
        let values = self.ratios(measure, self.part.ours(), beside);
        self.claims.push(Claim { measure: measure.into(), beside: beside.name(), values, goal });
    }

    /// The same for the server that ours cannot get below.
    pub(crate) fn bound(&mut self, measure: &'static str, least: Kind, beside: Kind) {
        let values = self.ratios(measure, least, beside);
        let measure = format!("{measure}, of the {}", least.name()).into();
        self.claims.push(Claim { measure, beside: beside.name(), values, goal: None });
    }

    fn ratios(&self, measure: &str, kind: Kind, beside: Kind) -> Vec<f64> {
        let figure = self.figures.iter().find(|figure| figure.measure == measure);
        figure.map_or_else(Vec::new, |figure| {
            let [these, those] =
                [kind, beside].map(|kind| figure.values[self.part.column(kind)].iter());
            these.zip(those).map(|(this, that)| this / that).collect()
        })
    }

    /// Our own values of a figure, turn by turn: what they are limited by is `beside`.
    pub(crate) fn limit(
        &mut self,
        measure: &'static str,
        beside: &'static str,
        goal: Option<Goal>,
    ) {
        let figure = self.figures.iter().find(|figure| figure.measure == measure);
        let ours = self.part.column(self.part.ours());
        let values = figure.map_or_else(Vec::new, |figure| figure.values[ours].clone());
        self.claims.push(Claim { measure: measure.into(), beside, values, goal });
    }

    /// Commits a second, from a turn.
    pub(crate) fn record_commits(
        &mut self,
        measure: &'static str,
        contestant: Contestant,
        value: f64,
    ) {
        match self.commits.iter_mut().find(|it| it.is_of(measure, contestant)) {
            Some(commits) => commits.values.push(value),
            None => self.commits.push(Commits { measure, contestant, values: vec![value] }),
        }
    }

    /// The ratio of partykit's commits to another's, turn by turn.
    pub(crate) fn compare_commits(
        &mut self,
        measure: &'static str,
        beside: Contestant,
        goal: Option<Goal>,
    ) {
        let [ours, theirs] =
            [Contestant::PartyKit, beside].map(|contestant| self.commits_of(measure, contestant));
        let values = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        self.claims.push(Claim { measure: measure.into(), beside: beside.name(), values, goal });
    }

    fn commits_of(&self, measure: &str, contestant: Contestant) -> &[f64] {
        let found = self.commits.iter().find(|it| it.is_of(measure, contestant));
        found.map_or(&[], |commits| &commits.values)
    }

    /// How long commits took, from a turn.
    pub(crate) fn latencies(&mut self, contestant: &'static str, latencies: Latencies) {
        self.latencies.push((contestant, latencies));
    }

    /// A value with a goal that is no ratio of two servers.
    pub(crate) fn claim(
        &mut self,
        measure: &'static str,
        beside: &'static str,
        value: f64,
        goal: Goal,
    ) {
        self.claims.push(Claim {
            measure: measure.into(),
            beside,
            values: vec![value],
            goal: Some(goal),
        });
    }

    /// Values, one for each turn, that are no ratio of two servers and may have a goal.
    pub(crate) fn claim_each(
        &mut self,
        measure: impl Into<Cow<'static, str>>,
        beside: &'static str,
        values: Vec<f64>,
        goal: Option<Goal>,
    ) {
        self.claims.push(Claim { measure: measure.into(), beside, values, goal });
    }

    /// Judges nothing.
    pub(crate) fn forget_goals(&mut self) {
        for claim in &mut self.claims {
            claim.goal = None;
        }
    }

    /// The goals that are missed, in words.
    pub(crate) fn missed(&self) -> Vec<String> {
        let with_goal = self.claims.iter().filter_map(|claim| Some((claim, claim.goal?)));
        with_goal
            .filter(|(claim, goal)| !goal.is_met(median(&claim.values)))
            .map(|(claim, goal)| {
                let is = number(median(&claim.values));
                format!("{}, beside {}: {is}, should be {goal}", claim.measure, claim.beside)
            })
            .collect()
    }

    pub(crate) fn markdown(&self, sizes: &Sizes) -> String {
        let mut text = self.part.introduction();
        text.push_str(&machine());
        text.push_str(&self.part.scale(sizes));
        let ours = self.part.ours().name();
        let _ = writeln!(text, "\n## Ratios\n\n{ours} / the other; the median of all turns.\n");
        text.push_str("| measure | beside | ratio | lowest to highest | goal | |\n");
        text.push_str("|---|---|---:|---:|---:|---|\n");
        for claim in &self.claims {
            let _ = writeln!(text, "{claim}");
        }
        if !(self.figures.is_empty() && self.commits.is_empty() && self.latencies.is_empty()) {
            text.push_str("\n## Figures\n\nMedians of all turns, of this machine at that hour.\n");
        }
        self.markdown_of_figures(&mut text);
        self.markdown_of_commits(&mut text);
        self.markdown_of_latencies(&mut text);
        text
    }

    fn markdown_of_figures(&self, text: &mut String) {
        if self.figures.is_empty() {
            return;
        }
        let servers = self.part.servers();
        let names = servers.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" | ");
        let _ = writeln!(text, "\n| measure | {names} |\n|---|{}", "---:|".repeat(servers.len()));
        for Figure { measure, values } in &self.figures {
            let cells = values.iter().map(|values| match values.as_slice() {
                [] => "".to_owned(),
                values => number(median(values)),
            });
            let _ = writeln!(text, "| {measure} | {} |", cells.collect::<Vec<_>>().join(" | "));
        }
    }

    fn markdown_of_latencies(&self, text: &mut String) {
        if self.latencies.is_empty() {
            return;
        }
        text.push_str(
            "\nCommits that replace rows while files are merged, turn by turn; milliseconds.\n\n\
             | store | commits/s | p50 | p99 | p99.9 | max |\n|---|---:|---:|---:|---:|---:|\n",
        );
        for (contestant, it) in &self.latencies {
            let cells = [it.rate, it.p50, it.p99, it.p999, it.max].map(number).join(" | ");
            let _ = writeln!(text, "| {contestant} | {cells} |");
        }
    }

    fn markdown_of_commits(&self, text: &mut String) {
        if self.commits.is_empty() {
            return;
        }
        let names = Contestant::ALL.map(Contestant::name).join(" | ");
        let _ = writeln!(
            text,
            "\n| measure | {names} |\n|---{}|",
            "|---:".repeat(names.split('|').count())
        );
        for (_, measure) in ROOMS {
            let cells = Contestant::ALL.map(|it| number(median(self.commits_of(measure, it))));
            let _ = writeln!(text, "| {measure} | {} |", cells.join(" | "));
        }
    }
}

impl Commits {
    fn is_of(&self, measure: &str, contestant: Contestant) -> bool {
        self.measure == measure && self.contestant == contestant
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = median(&self.values);
        let [lowest, highest] = [0, 100].map(|at| percentile(&mut self.values.clone(), at));
        let (goal, verdict) = match self.goal {
            None => (String::new(), ""),
            Some(goal) if goal.is_met(value) => (goal.to_string(), "reached"),
            Some(goal) => (goal.to_string(), "**missed**"),
        };
        let (measure, beside) = (&self.measure, self.beside);
        let (value, lowest, highest) = (number(value), number(lowest), number(highest));
        write!(f, "| {measure} | {beside} | {value} | {lowest} to {highest} | {goal} | {verdict} |")
    }
}

/// The value below which this many in a hundred are; NaN, which reaches no goal, of none.
pub(crate) fn percentile(values: &mut [f64], percent: usize) -> f64 {
    permille(values, percent * 10)
}

/// The value below which this many in a thousand are; NaN, which reaches no goal, of none.
pub(crate) fn permille(values: &mut [f64], permille: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get(last * permille / 1000).copied().unwrap_or(f64::NAN)
}

fn median(values: &[f64]) -> f64 {
    percentile(&mut values.to_vec(), 50)
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| {
            Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown".into());
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc.map_or_else(
        |_| "rustc unknown".into(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    );
    format!("Machine: {cores} cores ({processor}), Linux {}, {rustc}.\n", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(Part::Sockets)
    }

    #[test]
    fn a_ratio_is_the_median_over_the_turns() {
        let mut report = report();
        for (ours, theirs) in [(1.0, 2.0), (90.0, 100.0), (8.0, 10.0)] {
            report.record("speed", Kind::PartyKit, ours);
            report.record("speed", Kind::Raw, theirs);
        }
        report.compare("speed", Kind::Raw, Some(Goal::AtLeast(0.8)));
        assert_eq!(report.missed(), Vec::<String>::new());
        let table = report.markdown(&Sizes::QUICK);
        assert!(
            table.contains("| speed | raw | 0.80 | 0.50 to 0.90 | ≥ 0.8 | reached |"),
            "{table}"
        );
        assert!(table.contains("| speed | 8.00 | 10.0 |  |  |"), "{table}");
    }

    #[test]
    fn a_goal_without_figures_is_missed() {
        let mut report = report();
        report.compare("speed", Kind::Raw, Some(Goal::AtMost(9.0)));
        report.claim("latency", "nothing", 3.0, Goal::Below(3.0));
        assert_eq!(report.missed().len(), 2);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 50), 100.0);
        assert_eq!(percentile(&mut values, 99), 198.0);
        assert!(percentile(&mut [], 50).is_nan());
    }
}
