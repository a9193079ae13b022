//! One client that does one step after the other in a room of its own.

use std::collections::BTreeMap;

use super::Violation;
use crate::{
    protocol::{Ask, Failure, Position, Ring, Setting, Stored, Told},
    script::{self, JUNK, Model, When},
};

/// What a stream was asked for and has said, and what it has to hold by that.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    room: String,
    /// What was stored when somebody last looked.
    model: Model,
    position: Position,
    /// Up to where steps may be stored: they were asked for.
    asked: Position,
    /// The last step that somebody was told of.
    told: u64,
    /// The last alarm that somebody heard ring.
    heard: u64,
    /// When each step was asked for first. It stays the time of the step, however often it is asked for.
    times: BTreeMap<u64, u64>,
    violations: Vec<Violation>,
    /// For the report.
    pub(crate) steps: u64,
    pub(crate) rings: u64,
}

impl Track {
    pub(crate) fn new(room: &str) -> Self {
        Self {
            room: room.to_owned(),
            model: Model::default(),
            position: Position::default(),
            asked: Position::default(),
            told: 0,
            heard: 0,
            times: BTreeMap::new(),
            violations: Vec::new(),
            steps: 0,
            rings: 0,
        }
    }

    /// The step to begin with.
    pub(crate) fn next(&self) -> u64 {
        let is_whole = self.position == self.whole(self.position.number);
        self.position.number + u64::from(is_whole)
    }

    /// The question for a step, which is asked for now.
    pub(crate) fn ask(&mut self, number: u64, now: u64, fails: Option<Failure>) -> Ask {
        let whole = self.whole(number);
        let asked = match fails {
            None => whole,
            Some(Failure::Before) => self.asked,
            // Its last part fails with it; those before it were synced.
            Some(_) if whole.parts == 1 => self.asked,
            Some(_) => Position { number, parts: whole.parts - 1 },
        };
        self.asked = self.asked.max(asked);
        let now = *self.times.entry(number).or_insert(now);
        Ask::Step { number, now, fails }
    }

    /// Somebody was told this, at `now`.
    pub(crate) fn told(&mut self, told: &Told, now: u64) {
        match told {
            Told::Did(number) => {
                self.steps += 1;
                self.told = self.told.max(*number);
            }
            Told::Rang(ring) => {
                self.rings += 1;
                self.heard = self.heard.max(ring.number);
                self.check_ring(ring);
                if now < ring.scheduled {
                    self.violations.push(Violation::AlarmEarly(format!("{ring:?} heard at {now}")));
                }
            }
            Told::Refused(why) => self.unserved(why.clone()),
            other => self.unserved(format!("a stream said {other:?}")),
        }
    }

    /// What a copy has to hold that was begun when this was known, by what was asked for until `now`.
    pub(crate) fn until(&self, now: &Self) -> Self {
        let (asked, times) = (now.asked, now.times.clone());
        Self { asked, times, violations: Vec::new(), ..self.clone() }
    }

    /// Something else went wrong.
    pub(crate) fn unserved(&mut self, how: impl Into<String>) {
        self.violations.push(Violation::Unserved(how.into()));
    }

    /// Compares with what is stored, while nobody asks for anything; all promises broken so far. From then
    /// on what is stored counts as told. Once it is `settled`, all alarms but the far ones have to have
    /// rung.
    pub(crate) fn check(&mut self, stored: &Stored, settled: bool) -> Vec<Violation> {
        if self.check_position(stored.position) {
            self.advance(stored.position);
            self.check_rows(stored);
            self.check_alarm(stored, settled);
        }
        self.position = stored.position;
        self.asked = stored.position;
        // Of a step in part nobody was told.
        self.told = self.next() - 1;
        std::mem::take(&mut self.violations)
    }

    fn whole(&self, number: u64) -> Position {
        let parts = if number == 0 { 0 } else { script::parts(&self.room, number).len() };
        Position { number, parts }
    }

    /// Whether there is a state to compare with.
    fn check_position(&mut self, found: Position) -> bool {
        let told = self.whole(self.told).max(self.position);
        let asked = self.asked;
        if found < told {
            let how = format!("told of {told:?}; the last is {found:?}");
            self.violations.push(Violation::Lost(how));
        } else if found > asked && found.number == asked.number + u64::from(found.parts > 0) {
            let how = format!("{found:?}, asked for {asked:?}: of a handler that failed");
            self.violations.push(Violation::Half(how));
        } else if found > asked {
            self.violations.push(Violation::Invented(format!("{found:?}, asked for {asked:?}")));
        }
        told <= found && found <= asked
    }

    /// What is to be stored up to there.
    fn advance(&mut self, to: Position) {
        while self.position < to {
            let Position { number, parts } = self.position;
            let next = match self.position == self.whole(number) {
                true => Position { number: number + 1, parts: 0 },
                false => self.position,
            };
            let all = script::parts(&self.room, next.number);
            let end = if next.number == to.number { to.parts } else { all.len() };
            let begin = if next.number == number { parts } else { 0 };
            all[begin..end].iter().for_each(|part| self.model.apply(part, next.number));
            self.position = Position { number: next.number, parts: end };
        }
    }

    fn check_rows(&mut self, stored: &Stored) {
        let expected = &self.model.rows;
        for (key, value) in expected {
            let Some(found) = stored.rows.get(key) else {
                self.violations.push(Violation::Lost(format!("{key}: {value:?}")));
                continue;
            };
            if found.stamp == 0 {
                self.violations.push(Violation::Half(format!("{key} is torn")));
            } else if found != value {
                let how = format!("{key}: {value:?} was stored; there is {found:?}");
                self.violations.push(Violation::Lost(how));
            }
        }
        for (key, value) in stored.rows.iter().filter(|(key, _)| !expected.contains_key(*key)) {
            let how = format!("{key}: {value:?} at {:?}", stored.position);
            self.violations.push(match key.starts_with(JUNK) {
                true => Violation::Half(format!("{how} is of a handler that failed")),
                false => Violation::Back(how),
            });
        }
    }

    fn check_alarm(&mut self, stored: &Stored, settled: bool) {
        let expected = self.model.alarm.and_then(|(number, when)| {
            let at = when.from(*self.times.get(&script::step_of(number))?);
            Some((Setting { number, at, flaky: matches!(when, When::Flaky(_)) }, when))
        });
        let set = expected.map(|(set, _)| set);
        if stored.set != set {
            let how = format!("the alarm {set:?} is to be set; there is {:?}", stored.set);
            self.violations.push(Violation::Half(how));
        }
        let rang = stored.rang.map_or(0, |ring| ring.number);
        if rang != stored.rang_mirror {
            let how = format!("alarm {rang} rang, mirror {}", stored.rang_mirror);
            self.violations.push(Violation::Half(how));
        }
        if let Some(ring) = &stored.rang {
            self.check_ring(ring);
        }
        if rang > 0 && rang < self.model.cleared {
            let how = format!("the ring of {rang}, with all else before {}", self.model.cleared);
            self.violations.push(Violation::Back(how));
        }
        if rang < self.heard && self.model.cleared <= self.heard {
            let how = format!("{} was heard; the last ring stored is of {rang}", self.heard);
            self.violations.push(Violation::AlarmLost(how));
        }
        let pending = stored.pending;
        let how = format!("{expected:?} at {:?}, rang {rang}, pending {pending:?}", self.position);
        self.violations.extend(match expected {
            None => pending.map(|_| Violation::Back(how)),
            Some((set, When::Far)) => {
                (pending != Some(set.at)).then_some(Violation::AlarmLost(how))
            }
            Some((set, _)) => match (set.number == rang, pending.is_some()) {
                (true, true) => Some(Violation::AlarmTwice(how)),
                (false, false) => Some(Violation::AlarmLost(how)),
                (false, true) if settled => Some(Violation::AlarmLost(how)),
                _ => None,
            },
        });
    }

    fn check_ring(&mut self, ring: &Ring) {
        if ring.now < ring.scheduled {
            self.violations.push(Violation::AlarmEarly(format!("{ring:?}")));
        }
        if ring.times != 1 {
            self.violations.push(Violation::AlarmTwice(format!("{ring:?}")));
        }
        let when = script::alarm(&self.room, ring.number);
        let now = self.times.get(&script::step_of(ring.number));
        let at = when.zip(now).map(|(when, now)| when.from(*now));
        if at != Some(ring.scheduled) {
            self.violations.push(Violation::Invented(format!("{ring:?} was asked for {at:?}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Action, Value};

    const ROOM: &str = "room";

    /// The first step that `is` so, and everything before it, asked for and told.
    fn track(is: impl Fn(&[Vec<Action>]) -> bool) -> (Track, Stored) {
        let mut track = Track::new(ROOM);
        let mut model = Model::default();
        let mut number = 0;
        loop {
            number += 1;
            track.ask(number, 1_000, None);
            track.told(&Told::Did(number), 1_000);
            let parts = script::parts(ROOM, number);
            parts.iter().for_each(|part| model.apply(part, number));
            if is(&parts) {
                let position = Position { number, parts: parts.len() };
                let set = model.alarm.map(|(number, when)| {
                    let flaky = matches!(when, When::Flaky(_));
                    Setting { number, at: when.from(1_000), flaky }
                });
                let pending = set.map(|set| set.at);
                let rows = model.rows;
                return (track, Stored { position, rows, set, pending, ..Stored::default() });
            }
        }
    }

    fn alarm(parts: &[Vec<Action>]) -> bool {
        let soon = |it: &Action| matches!(it, Action::SetAlarm { when: When::Soon(_), .. });
        parts.iter().flatten().any(soon)
    }

    fn found(change: impl FnOnce(&mut Stored)) -> Vec<Violation> {
        let (mut track, mut stored) = track(alarm);
        change(&mut stored);
        track.check(&stored, false)
    }

    #[test]
    fn a_word_that_was_kept_is_no_violation() {
        assert_eq!(found(|_| {}), []);
        let (mut track, stored) = track(alarm);
        let next = stored.position.number + 1;
        track.ask(next, 2_000, None);
        assert_eq!(track.check(&stored, false), [], "what was only asked for may be lost");
        assert_eq!(track.next(), next, "and is asked for again");
        assert_eq!(Track::new(ROOM).check(&Stored::default(), true), []);
    }

    #[test]
    fn a_lost_step_is_found() {
        let lost = found(|stored| *stored = Stored::default());
        assert!(matches!(lost[..], [Violation::Lost(_)]), "{lost:?}");
        let lost = found(|stored| drop(stored.rows.pop_first()));
        assert!(matches!(lost[..], [Violation::Lost(_)]), "{lost:?}");
        let old = found(|stored| {
            *stored.rows.first_entry().unwrap().get_mut() = Value { stamp: 9, times: 1 };
        });
        assert!(matches!(old[..], [Violation::Lost(_)]), "{old:?}");
    }

    #[test]
    fn what_comes_back_is_found() {
        let back = found(|stored| {
            stored.rows.insert("single/99".into(), Value { stamp: 9, times: 1 });
        });
        assert!(matches!(back[..], [Violation::Back(_)]), "{back:?}");
        let clears = |parts: &[Vec<Action>]| parts.iter().flatten().any(|it| *it == Action::Clear);
        let (mut track, mut stored) = track(clears);
        stored.pending = Some(5);
        let back = track.check(&stored, false);
        assert!(matches!(back[..], [Violation::Back(_)]), "{back:?}");
    }

    #[test]
    fn a_copy_holds_what_was_told_before_it_and_may_hold_more() {
        let (then, stored) = track(alarm);
        let (mut now, later) = track(|parts| alarm(parts) && parts.len() > 1);
        assert!(later.position > stored.position);
        assert_eq!(then.until(&now).check(&stored, false), []);
        assert_eq!(then.until(&now).check(&later, false), []);
        let old = Stored::default();
        assert!(matches!(then.until(&now).check(&old, false)[..], [Violation::Lost(_)]));
        assert!(!now.check(&stored, false).is_empty(), "of now it is too old");
    }

    #[test]
    fn a_torn_row_and_a_failed_handler_are_found() {
        let half = found(|stored| stored.rows.first_entry().unwrap().get_mut().stamp = 0);
        assert!(matches!(half[..], [Violation::Half(_)]), "{half:?}");
        let junk = found(|stored| {
            stored.rows.insert(format!("{JUNK}7"), Value { stamp: 9, times: 1 });
        });
        assert!(matches!(junk[..], [Violation::Half(_)]), "{junk:?}");
        let (mut track, mut stored) = track(alarm);
        let number = stored.position.number + 1;
        track.ask(number, 1_000, Some(Failure::After));
        stored.position = track.whole(number);
        let failed = track.check(&stored, false);
        assert!(matches!(failed[..], [Violation::Half(_)]), "{failed:?}");
    }

    #[test]
    fn a_synced_part_may_be_there_alone() {
        let (mut track, mut stored) = track(|parts| parts.len() > 1);
        let Position { number, parts } = stored.position;
        track.told = number - 1;
        stored.position.parts = parts - 1;
        let mut model = Model::default();
        for before in 1..number {
            script::parts(ROOM, before).iter().for_each(|part| model.apply(part, before));
        }
        script::parts(ROOM, number)[..parts - 1].iter().for_each(|it| model.apply(it, number));
        stored.rows = model.rows;
        assert_eq!(track.check(&stored, false), []);
        assert_eq!(track.next(), number, "its rest is asked for again");
        assert_eq!(track.check(&stored, false), [], "and nobody was told of it by then");
    }

    #[test]
    fn what_is_wrong_with_an_alarm_is_found() {
        let lost = found(|stored| stored.pending = None);
        assert!(matches!(lost[..], [Violation::AlarmLost(_)]), "{lost:?}");
        let ring = |stored: &Stored| {
            let set = stored.set.unwrap();
            Ring { number: set.number, scheduled: set.at, now: set.at + 1, times: 1 }
        };
        let rang = |stored: &mut Stored, ring: Ring| {
            (stored.rang, stored.rang_mirror, stored.pending) = (Some(ring), ring.number, None);
        };
        assert_eq!(found(|stored| rang(stored, ring(stored))), []);
        let early = found(|stored| {
            rang(stored, Ring { now: 0, ..ring(stored) });
        });
        assert!(matches!(early[..], [Violation::AlarmEarly(_)]), "{early:?}");
        let twice = found(|stored| {
            rang(stored, ring(stored));
            stored.pending = Some(7);
        });
        assert!(matches!(twice[..], [Violation::AlarmTwice(_)]), "{twice:?}");
        let (mut track, stored) = track(alarm);
        let late = track.check(&stored, true);
        assert!(matches!(late[..], [Violation::AlarmLost(_)]), "{late:?}");
    }
}
