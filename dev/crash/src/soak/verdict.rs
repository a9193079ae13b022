//! What came of a run.

use std::{collections::HashMap, fmt};

use super::{
    Broken,
    bell::{Nature, Ring, Set, Stored},
    witness::Line,
};

/// The figures, and the promises that were broken.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    alarms: usize,
    pub(super) kills: u32,
    /// How often a handler ended the process.
    pub(super) aborts: u32,
    /// When the first alarm was due.
    begun: u64,
    /// When the server was left alone.
    killed_until: u64,
    /// How often a handler has begun.
    pub(super) attempts: usize,
    /// How many alarms have rung to their end.
    pub(super) rings: usize,
    /// Those of them that did so while the server was killed.
    early_rings: usize,
    /// How many have rung in each second.
    seconds: HashMap<u64, usize>,
    last: u64,
    deaths: u64,
    most_deaths: u32,
    failures: u64,
    parked: usize,
    pub(super) broken: Vec<Broken>,
}

impl Verdict {
    /// None yet: this many alarms were set, the first for then, and the server was left alone then.
    pub(super) fn new(alarms: usize, begun: u64, killed_until: u64) -> Self {
        Self { alarms, begun, killed_until, ..Self::default() }
    }

    /// A room whose handler succeeds in the end, and whose first alarm was set for `at`.
    pub(super) fn sound(&mut self, room: &str, at: u64, stored: &Stored) {
        for ring in &stored.rings {
            self.rings += 1;
            self.early_rings += usize::from(ring.began < self.killed_until);
            *self.seconds.entry(ring.began / 1_000).or_default() += 1;
            self.last = self.last.max(ring.began);
            self.deaths += u64::from(ring.deaths);
            self.most_deaths = self.most_deaths.max(ring.deaths);
            self.failures += u64::from(ring.retries);
        }
        let broken = broken(room, at, stored);
        self.broken.extend(broken.map(|how| Broken { room: room.to_owned(), how }));
    }

    /// A room whose handler ends the process: its alarm is parked, and every death was counted.
    pub(super) fn poisonous(&mut self, room: &str, alarm: Option<(bool, u32)>, lines: &[Line]) {
        let died = lines.iter().filter(|line| line.room == room).count();
        let how = match alarm {
            None => "it is poisonous, and was deleted".to_owned(),
            Some((false, _)) => "it is poisonous, and is not parked".to_owned(),
            Some((true, deaths)) if (deaths as usize) < died => {
                format!("it has died {died} times, and {deaths} were counted")
            }
            Some((true, deaths)) => {
                self.parked += 1;
                self.deaths += u64::from(deaths);
                self.most_deaths = self.most_deaths.max(deaths);
                return;
            }
        };
        self.broken.push(Broken { room: room.to_owned(), how });
    }
}

/// What is wrong with a sound room.
fn broken(room: &str, at: u64, stored: &Stored) -> Option<String> {
    let Ok(Nature::Sound { fails, laps, .. }) = room.parse() else {
        return Some("it has no name of a sound room".into());
    };
    if stored.stray {
        return Some("a handler that failed has stored something".into());
    }
    for (ring, lap) in stored.rings.iter().zip(1..) {
        let Ring { set, scheduled, began, retries, .. } = *ring;
        let what = match lap {
            _ if set.lap < lap => "has rung twice",
            _ if set.lap > lap => "was not stored",
            1 if set != (Set { lap: 1, at }) => "was set for another moment",
            _ if scheduled != set.at => "was told another moment than it was set for",
            _ if began < scheduled => "rang early",
            _ if retries != fails => "counted failures that were none of its handler's",
            _ => continue,
        };
        return Some(format!("lap {lap} {what}: {ring:?}"));
    }
    let rang = stored.rings.len();
    match rang.cmp(&(laps as usize)) {
        std::cmp::Ordering::Greater => Some(format!("{laps} alarms were set, and {rang} rang")),
        std::cmp::Ordering::Less if !stored.pending => {
            Some(format!("lap {} is lost: no alarm is there, and it never rang", rang + 1))
        }
        std::cmp::Ordering::Less => Some(format!("lap {} has not rung in time", rang + 1)),
        std::cmp::Ordering::Equal if stored.pending || !stored.done => {
            Some("all have rung, and it is not done".into())
        }
        std::cmp::Ordering::Equal => None,
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let killed = self.killed_until.saturating_sub(self.begun) as f64 / 1e3;
        let quiet = self.last.saturating_sub(self.killed_until) as f64 / 1e3;
        let best = self.seconds.values().max().copied().unwrap_or(0);
        writeln!(
            f,
            "{} alarms set in as many rooms; {} rang to their end, {} of them set by a ring",
            self.alarms,
            self.rings,
            self.rings.saturating_sub(self.alarms - self.parked),
        )?;
        writeln!(
            f,
            "{} kills and {} aborts in {killed:.0} s; {} attempts, {} deaths found (at most {} of one \
             alarm), {} failures",
            self.kills, self.aborts, self.attempts, self.deaths, self.most_deaths, self.failures
        )?;
        writeln!(
            f,
            "pace: {:.0} alarms a second under kills, {best} in the best second; the last one rang {quiet:.1} s \
             after the last kill",
            self.early_rings as f64 / killed.max(0.001)
        )?;
        write!(
            f,
            "{} poisonous alarms parked; {} promises broken",
            self.parked,
            self.broken.len()
        )?;
        let shown = self.broken.iter().take(10);
        shown.into_iter().try_for_each(|Broken { room, how }| write!(f, "\n  {room}: {how}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: &str = "sound-1-0-0-2-0";

    fn ring(lap: u32, at: u64) -> Ring {
        let set = Set { lap, at };
        Ring { set, scheduled: at, began: at + 5, retries: 0, deaths: 3 }
    }

    fn well() -> Stored {
        let rings = vec![ring(1, 100), ring(2, 200)];
        Stored { set: Some(rings[1].set), rings, done: true, stray: false, pending: false }
    }

    fn wrong(change: impl FnOnce(&mut Stored)) -> String {
        let mut stored = well();
        change(&mut stored);
        broken(ROOM, 100, &stored).unwrap_or_default()
    }

    #[test]
    fn a_room_whose_alarms_all_rang_once_is_well() {
        assert_eq!(broken(ROOM, 100, &well()), None);
    }

    #[test]
    fn everything_else_is_found() {
        assert!(wrong(|it| it.rings[1] = it.rings[0]).contains("twice"));
        assert!(wrong(|it| it.rings.push(ring(2, 200))).contains("twice"));
        assert!(wrong(|it| it.rings.truncate(1)).contains("lost"));
        assert!(
            wrong(|it| (it.rings, it.pending) = (vec![ring(1, 100)], true)).contains("in time")
        );
        assert!(wrong(|it| it.rings = vec![ring(2, 200)]).contains("not stored"));
        assert!(wrong(|it| it.rings[0].began = 99).contains("early"));
        assert!(wrong(|it| it.rings[0].scheduled = 101).contains("another moment"));
        assert!(wrong(|it| it.rings[0].retries = 1).contains("none of its handler's"));
        assert!(wrong(|it| it.stray = true).contains("failed"));
        assert!(wrong(|it| it.done = false).contains("not done"));
        assert!(broken(ROOM, 101, &well()).is_some_and(|how| how.contains("another moment")));
    }

    #[test]
    fn a_poisonous_alarm_is_parked_and_its_deaths_are_counted() {
        let line = Line { room: "p".into(), lap: 1, scheduled: 1, began: 1, retries: 0, deaths: 0 };
        let lines = [line.clone(), line];
        let found = |alarm| {
            let mut verdict = Verdict::default();
            verdict.poisonous("p", alarm, &lines);
            verdict.broken.len()
        };
        assert_eq!(
            [Some((true, 2)), Some((true, 1)), Some((false, 2)), None].map(found),
            [0, 1, 1, 1]
        );
    }
}
