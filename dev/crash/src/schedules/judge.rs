//! What came of a run.

use std::fmt;

use super::server::{Left, Ran, SCHEDULES, Stored, period};

/// The figures, and the promises that were broken.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    rooms: usize,
    killed_until: u64,
    kills: u32,
    /// How many runs have succeeded.
    pub(super) runs: usize,
    missed: u64,
    retries: u64,
    deaths: u64,
    /// How late runs began while the server was left alone, in milliseconds.
    late: Vec<u64>,
    pub(super) broken: Vec<String>,
}

impl Verdict {
    pub(super) fn new(rooms: usize, killed_until: u64, kills: u32) -> Self {
        Self { rooms, killed_until, kills, ..Self::default() }
    }

    /// What a room has stored.
    pub(super) fn room(&mut self, room: &str, stored: &Stored) {
        for ran in stored.ran.values().flatten() {
            self.runs += 1;
            self.missed += u64::from(ran.missed);
            self.retries += u64::from(ran.retries);
            self.deaths += u64::from(ran.deaths);
            let is_plain = ran.retries == 0 && ran.deaths == 0 && ran.missed == 0;
            // Those that were due before are late because of the kills.
            if is_plain && ran.scheduled > self.killed_until + 1_000 {
                self.late.push(ran.began.saturating_sub(ran.scheduled));
            }
        }
        let broken = broken(stored);
        self.broken.extend(broken.map(|how| format!("{room}: {how}")));
    }
}

/// What is wrong with a room.
fn broken(stored: &Stored) -> Option<String> {
    if stored.stray {
        return Some("a handler that failed has stored something".into());
    }
    if stored.first.len() != SCHEDULES {
        return Some(format!("it has set {} schedules", stored.first.len()));
    }
    for (name, first) in &stored.first {
        let ran = stored.ran.get(name).map_or(&[][..], |ran| ran);
        let left: Vec<&Left> = stored.left.iter().filter(|left| left.name == *name).collect();
        if let Some(how) = wrong(period(name), *first, ran, &left) {
            return Some(format!("{name} {how}: first at {first}, {ran:?}, {left:?}"));
        }
    }
    let stranger = stored.left.iter().find(|left| !stored.first.contains_key(&left.name));
    stranger.map(|left| format!("nothing has set {}", left.name))
}

/// What is wrong with a schedule.
fn wrong(period: Option<u64>, first: u64, ran: &[Ran], left: &[&Left]) -> Option<&'static str> {
    let mut due = first;
    for (number, run) in ran.iter().enumerate() {
        if run.began < run.scheduled {
            return Some("ran early");
        }
        if period.is_none() && number > 0 || run.scheduled < due {
            return Some("ran twice");
        }
        if run.scheduled > due {
            return Some("has lost a run");
        }
        due += period.unwrap_or(0) * (u64::from(run.missed) + 1);
    }
    match (period, left) {
        (None, []) if ran.is_empty() => Some("is lost"),
        (None, [_, ..]) => Some("has not run in time"),
        (None, []) => None,
        (Some(_), [left]) if left.retries == 0 && left.deaths == 0 && left.next != Some(due) => {
            Some("does not go on with its next time")
        }
        (Some(_), [_]) => None,
        (Some(_), _) => Some("is lost"),
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut late = self.late.clone();
        late.sort_unstable();
        let at = |share: usize| late.get(late.len().saturating_sub(1) * share / 100).copied();
        writeln!(
            f,
            "{} rooms with {SCHEDULES} schedules each; {} kills; {} runs, which stand for {} more that \
             were missed; {} failures, {} deaths",
            self.rooms, self.kills, self.runs, self.missed, self.retries, self.deaths
        )?;
        writeln!(
            f,
            "left alone: {} runs, late by {} ms (p50), {} ms (p99)",
            late.len(),
            at(50).unwrap_or(0),
            at(99).unwrap_or(0)
        )?;
        write!(f, "{} promises broken", self.broken.len())?;
        self.broken.iter().take(10).try_for_each(|how| write!(f, "\n  {how}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(scheduled: u64, missed: u32) -> Ran {
        Ran { scheduled, missed, began: scheduled + 3, retries: 0, deaths: 0 }
    }

    fn left(next: u64) -> Left {
        Left { name: "a".into(), next: Some(next), retries: 0, deaths: 0 }
    }

    #[test]
    fn what_ran_each_time_or_counted_what_it_missed_is_well() {
        let runs = [ran(100, 0), ran(150, 2), ran(300, 0)];
        assert_eq!(wrong(Some(50), 100, &runs, &[&left(350)]), None);
        assert_eq!(wrong(None, 100, &[ran(100, 0)], &[]), None);
    }

    #[test]
    fn everything_else_is_found() {
        let every = |runs: &[Ran], left: &[&Left]| wrong(Some(50), 100, runs, left);
        assert_eq!(every(&[ran(100, 0), ran(100, 0)], &[&left(150)]), Some("ran twice"));
        assert_eq!(every(&[ran(100, 1), ran(150, 0)], &[&left(200)]), Some("ran twice"));
        assert_eq!(every(&[ran(100, 0), ran(200, 0)], &[&left(250)]), Some("has lost a run"));
        assert_eq!(every(&[ran(150, 0)], &[&left(200)]), Some("has lost a run"));
        let mut early = ran(100, 0);
        early.began = 99;
        assert_eq!(every(&[early], &[&left(150)]), Some("ran early"));
        assert_eq!(every(&[ran(100, 0)], &[]), Some("is lost"));
        assert_eq!(every(&[ran(100, 0)], &[&left(150), &left(150)]), Some("is lost"));
        let how = every(&[ran(100, 0)], &[&left(200)]);
        assert_eq!(how, Some("does not go on with its next time"));
        assert_eq!(wrong(None, 100, &[], &[]), Some("is lost"));
        assert_eq!(wrong(None, 100, &[ran(100, 0), ran(100, 0)], &[]), Some("ran twice"));
        assert_eq!(wrong(None, 100, &[], &[&left(100)]), Some("has not run in time"));
    }
}
