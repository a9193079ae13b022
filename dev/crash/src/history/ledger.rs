//! Several clients that write to one room at a time.

use std::collections::{BTreeMap, VecDeque};

use super::Violation;
use crate::protocol::{ENTRIES, Entry, Ring, State, Told};

/// What the clients of one room have asked for and were told.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    writers: BTreeMap<String, Writer>,
    /// The last writes that anybody was told of, in the order of their counts.
    told: VecDeque<Entry>,
    /// The alarms that were asked for: when each is to ring.
    alarms: BTreeMap<u64, u64>,
    /// The last alarm that was confirmed.
    set: u64,
    /// The last alarm that somebody heard ring.
    rang: u64,
    violations: Vec<Violation>,
    /// For the report.
    pub(crate) writes: u64,
    pub(crate) rings: u64,
}

#[derive(Clone, Debug, Default)]
struct Writer {
    asked: u64,
    told: u64,
}

impl History {
    /// The next number of a writer, which it asks for.
    pub(crate) fn write(&mut self, writer: &str) -> u64 {
        let writer = self.writers.entry(writer.to_owned()).or_default();
        writer.asked += 1;
        writer.asked
    }

    /// The number of the next alarm, which is asked for.
    pub(crate) fn alarm(&mut self, at: u64) -> u64 {
        let number = self.alarms.last_key_value().map_or(0, |(number, _)| *number) + 1;
        self.alarms.insert(number, at);
        number
    }

    /// Somebody was told this, at `now`.
    pub(crate) fn told(&mut self, told: Told, now: u64) {
        match told {
            Told::Wrote(entry) => {
                let writer = self.writers.entry(entry.writer.clone()).or_default();
                if entry.number > writer.told {
                    writer.told = entry.number;
                    self.writes += 1;
                }
                let place = self.told.partition_point(|known| known.count < entry.count);
                match self.told.get(place) {
                    Some(known) if *known == entry => {}
                    Some(known) if known.count == entry.count => {
                        let how = format!("told of both {known:?} and {entry:?}");
                        self.violations.push(Violation::Lost(how));
                    }
                    _ => self.told.insert(place, entry),
                }
                if self.told.len() as u64 > ENTRIES {
                    self.told.pop_front();
                }
            }
            Told::Set { number, at } => {
                if self.alarms.get(&number) != Some(&at) {
                    let how = format!("alarm {number} at {at}");
                    self.violations.push(Violation::Invented(how));
                }
                self.set = self.set.max(number);
            }
            Told::Rang(ring) => {
                self.rings += u64::from(ring.number > self.rang);
                self.rang = self.rang.max(ring.number);
                self.check_ring(&ring);
                if now < ring.scheduled {
                    self.violations.push(Violation::AlarmEarly(format!("{ring:?} heard at {now}")));
                }
            }
            Told::State(_) | Told::Did(_) | Told::Stored(_) => {}
            Told::Refused(why) => self.violations.push(Violation::Unserved(why)),
        }
    }

    /// What a copy has to hold that was begun when this was known, by what was asked for until `now`.
    pub(crate) fn until(&self, now: &Self) -> Self {
        let told = |name: &str| self.writers.get(name).map_or(0, |writer| writer.told);
        let writer = |(name, now): (&String, &Writer)| {
            (name.clone(), Writer { asked: now.asked, told: told(name) })
        };
        let writers = now.writers.iter().map(writer).collect();
        let alarms = now.alarms.clone();
        Self { writers, alarms, violations: Vec::new(), ..self.clone() }
    }

    /// Something else went wrong.
    pub(crate) fn unserved(&mut self, how: impl Into<String>) {
        self.violations.push(Violation::Unserved(how.into()));
    }

    /// Compares with what is stored, while nobody writes; all promises broken so far. From then on what is
    /// stored counts as told. Once it is `settled`, all alarms have to have rung.
    pub(crate) fn check(&mut self, state: State, settled: bool) -> Vec<Violation> {
        self.check_whole(&state);
        self.check_told(&state);
        self.check_alarms(&state, settled);
        for (name, number) in state.writers {
            self.writers.insert(name, Writer { asked: number, told: number });
        }
        // Asked for by somebody whose connection ended, and never handled.
        self.writers.values_mut().for_each(|writer| writer.asked = writer.told);
        self.told.retain(|entry| entry.count <= state.count);
        self.set = state.set.map_or(0, |set| set.number);
        self.rang = state.rang.map_or(0, |ring| ring.number);
        self.alarms = self.alarms.split_off(&self.rang.min(self.set));
        std::mem::take(&mut self.violations)
    }

    /// The keys that a handler writes together.
    fn check_whole(&mut self, state: &State) {
        let mut half = |is: bool, how: String| {
            if !is {
                self.violations.push(Violation::Half(how));
            }
        };
        let (count, mirror) = (state.count, state.mirror);
        half(count == mirror, format!("count {count}, mirror {mirror}"));
        let sum: u64 = state.writers.values().sum();
        half(count == sum, format!("count {count}, but the writers wrote {sum}"));
        let mut counts: Vec<u64> = state.entries.iter().map(|entry| entry.count).collect();
        let mut ballast = state.ballast.clone();
        counts.sort_unstable();
        ballast.sort_unstable();
        let expected: Vec<u64> = (count.saturating_sub(ENTRIES) + 1..=count).collect();
        half(counts == expected, format!("count {count}, entries {counts:?}"));
        half(ballast == expected, format!("count {count}, ballast {ballast:?}"));
        for entry in &state.entries {
            let last = state.writers.get(&entry.writer).copied().unwrap_or(0);
            half(entry.number <= last, format!("{entry:?}, but the writer's last is {last}"));
        }
        let set = state.set.map_or(0, |set| set.number);
        half(set == state.set_mirror, format!("alarm {set} set, mirror {}", state.set_mirror));
        let rang = state.rang.map_or(0, |ring| ring.number);
        half(rang == state.rang_mirror, format!("alarm {rang} rang, mirror {}", state.rang_mirror));
    }

    /// What somebody was told of is there; what is there, somebody asked for.
    fn check_told(&mut self, state: &State) {
        for (name, writer) in &self.writers {
            let stored = state.writers.get(name).copied().unwrap_or(0);
            let Writer { asked, told } = writer;
            if stored < *told {
                let how = format!("{name} was told that {told} is stored; the last is {stored}");
                self.violations.push(Violation::Lost(how));
            }
            if stored > *asked {
                let how = format!("{name} asked for {asked} numbers; the last is {stored}");
                self.violations.push(Violation::Invented(how));
            }
        }
        for told in &self.told {
            let overwritten = told.count + ENTRIES <= state.count;
            if !overwritten && !state.entries.contains(told) {
                self.violations
                    .push(Violation::Lost(format!("{told:?} was told, and is not there")));
            }
        }
    }

    fn check_alarms(&mut self, state: &State, settled: bool) {
        let (set, at) = state.set.map_or((0, 0), |set| (set.number, set.at));
        if set < self.set {
            let how = format!("told that {} is set; the last is {set}", self.set);
            self.violations.push(Violation::AlarmLost(how));
        }
        if set > 0 && self.alarms.get(&set) != Some(&at) {
            self.violations.push(Violation::Invented(format!("alarm {set} at {at}")));
        }
        let rang = state.rang.map_or(0, |ring| ring.number);
        if rang < self.rang {
            let how = format!("{} was heard; the last ring stored is of {rang}", self.rang);
            self.violations.push(Violation::AlarmLost(how));
        }
        let how =
            format!("{set} is set, the last ring is of {rang}, pending is {:?}", state.pending);
        match (rang == set, state.pending) {
            (false, None) => self.violations.push(Violation::AlarmLost(how)),
            (false, Some(_)) if settled => self.violations.push(Violation::AlarmLost(how)),
            (true, Some(_)) => self.violations.push(Violation::AlarmTwice(how)),
            _ => {}
        }
        if let Some(ring) = state.rang {
            self.check_ring(&ring);
        }
    }

    fn check_ring(&mut self, ring: &Ring) {
        if ring.now < ring.scheduled {
            self.violations.push(Violation::AlarmEarly(format!("{ring:?}")));
        }
        if ring.times != 1 {
            self.violations.push(Violation::AlarmTwice(format!("{ring:?}")));
        }
        // Older ones were checked when they were heard.
        let asked = self.alarms.get(&ring.number);
        if asked.is_some_and(|at| *at != ring.scheduled) {
            self.violations.push(Violation::Half(format!("{ring:?} was asked for {asked:?}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Setting;

    fn entry(count: u64, writer: &str, number: u64) -> Entry {
        Entry { count, writer: writer.into(), number }
    }

    /// Two writes and an alarm, asked for and confirmed, and the ring that was heard.
    fn history() -> History {
        let mut history = History::default();
        for entry in [entry(1, "a", 1), entry(2, "b", 1)] {
            assert_eq!(history.write(&entry.writer), entry.number);
            history.told(Told::Wrote(entry), 0);
        }
        assert_eq!(history.alarm(500), 1);
        history.told(Told::Set { number: 1, at: 500 }, 0);
        history.told(Told::Rang(ring()), 510);
        history
    }

    fn ring() -> Ring {
        Ring { number: 1, scheduled: 500, now: 505, times: 1 }
    }

    /// What is stored after that.
    fn state() -> State {
        State {
            count: 2,
            mirror: 2,
            writers: [("a".into(), 1), ("b".into(), 1)].into(),
            entries: vec![entry(1, "a", 1), entry(2, "b", 1)],
            ballast: vec![1, 2],
            set: Some(Setting { number: 1, at: 500, flaky: false }),
            set_mirror: 1,
            rang: Some(ring()),
            rang_mirror: 1,
            pending: None,
        }
    }

    fn found(history: &mut History, change: impl FnOnce(&mut State)) -> Vec<Violation> {
        let mut state = state();
        change(&mut state);
        history.check(state, false)
    }

    #[test]
    fn a_word_that_was_kept_is_no_violation() {
        assert_eq!(history().check(state(), true), []);
        let mut unanswered = history();
        unanswered.write("a");
        unanswered.alarm(900);
        assert_eq!(unanswered.check(state(), true), [], "what was only asked for may be lost");
        assert_eq!(unanswered.write("a"), 2, "and is asked for again");
        assert_eq!(History::default().check(State::default(), true), []);
    }

    #[test]
    fn what_was_stored_without_a_word_is_fine_and_counts_from_then_on() {
        let mut history = history();
        history.write("a");
        let more = |state: &mut State| {
            (state.count, state.mirror) = (3, 3);
            state.writers.insert("a".into(), 2);
            state.entries.push(entry(3, "a", 2));
            state.ballast.push(3);
        };
        assert_eq!(found(&mut history, more), []);
        assert!(matches!(found(&mut history, |_| {})[..], [Violation::Lost(_)]));
    }

    #[test]
    fn a_lost_write_is_found() {
        let lost = found(&mut history(), |state| {
            *state = State { rang: Some(ring()), ..State::default() }
        });
        assert!(
            lost.iter().any(|it| matches!(it, Violation::Lost(how) if how.contains("told that 1")))
        );
        let other = found(&mut history(), |state| state.entries[1] = entry(2, "a", 1));
        assert!(matches!(other[..], [Violation::Lost(_)]), "{other:?}");
    }

    #[test]
    fn half_a_handler_is_found_whichever_half() {
        let halves: [fn(&mut State); 7] = [
            |state| state.ballast[1] = 0,
            |state| state.mirror = 1,
            |state| state.count = 3,
            |state| state.entries[0] = entry(17, "a", 1),
            |state| drop(state.entries.pop()),
            |state| state.set_mirror = 0,
            |state| state.rang_mirror = 0,
        ];
        for (index, half) in halves.into_iter().enumerate() {
            let found = found(&mut history(), half);
            assert!(found.iter().any(|it| matches!(it, Violation::Half(_))), "{index}: {found:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_alarm_is_found() {
        let silent = found(&mut history(), |state| (state.rang, state.rang_mirror) = (None, 0));
        assert!(
            matches!(silent[..], [Violation::AlarmLost(_), Violation::AlarmLost(_)]),
            "{silent:?}"
        );
        let early = Ring { now: 499, ..ring() };
        let early = found(&mut history(), |state| state.rang = Some(early));
        assert!(matches!(early[..], [Violation::AlarmEarly(_)]), "{early:?}");
        let twice = found(&mut history(), |state| state.rang = Some(Ring { times: 2, ..ring() }));
        assert!(matches!(twice[..], [Violation::AlarmTwice(_)]), "{twice:?}");
        let mut early = history();
        early.told(Told::Rang(ring()), 499);
        assert!(matches!(early.check(state(), true)[..], [Violation::AlarmEarly(_)]));
    }

    #[test]
    fn an_alarm_is_pending_or_has_rung() {
        let pending = |state: &mut State| {
            (state.rang, state.rang_mirror, state.pending) = (None, 0, Some(500));
        };
        let mut unheard = History::default();
        unheard.alarm(500);
        let mut stored = State {
            set: Some(Setting { number: 1, at: 500, flaky: false }),
            set_mirror: 1,
            ..State::default()
        };
        pending(&mut stored);
        assert_eq!(unheard.check(stored.clone(), false), []);
        assert!(matches!(unheard.check(stored, true)[..], [Violation::AlarmLost(_)]));
        let twice = found(&mut history(), |state| state.pending = Some(500));
        assert!(matches!(twice[..], [Violation::AlarmTwice(_)]), "{twice:?}");
    }

    #[test]
    fn what_nobody_asked_for_is_found() {
        let found = found(&mut history(), |state| {
            state.writers.insert("a".into(), 2);
            (state.count, state.mirror) = (3, 3);
            state.entries.push(entry(3, "a", 2));
            state.ballast.push(3);
        });
        assert!(matches!(found[..], [Violation::Invented(_)]), "{found:?}");
    }
}
