//! What each step of a stream does: known to the server, which does it, and to the check, which does it in
//! a model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A part of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Put(String, Value),
    /// At most 128 keys.
    Delete(Vec<String>),
    /// Removes everything, the alarm too.
    Clear,
    SetAlarm {
        number: u64,
        when: When,
    },
    DeleteAlarm,
    /// A transaction.
    Together(Vec<Self>),
    /// A transaction that fails at its end.
    InVain(Vec<Self>),
    /// Makes durable what was done so far, whatever comes later.
    Sync,
}

/// The bytes of a row: a stamp over and over, so that half of them shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Value {
    /// What no other value has; 0 for one that is not whole.
    pub(crate) stamp: u64,
    /// How often it is there.
    pub(crate) times: u32,
}

/// When an alarm is to ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum When {
    /// It was, a second ago.
    Past,
    /// In this many milliseconds.
    Soon(u64),
    /// The same; its handler fails the first time.
    Flaky(u64),
    /// Not while the test lasts.
    Far,
}

/// An hour, in milliseconds.
const FAR: u64 = 3_600_000;

/// The prefix of what no handler or transaction stores that ends well.
pub(crate) const JUNK: &str = "junk/";

/// How many rows a stream puts one by one, and how many it puts and deletes many at a time.
const SINGLE: u64 = 24;
const MANY: u64 = 200;

/// How many alarms a step has at most, so that each has a number of its own.
const ALARMS: u64 = 8;

impl Value {
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.stamp.to_le_bytes().repeat(self.times as usize)
    }

    pub(crate) fn read(bytes: &[u8]) -> Self {
        let (stamps, rest) = bytes.as_chunks::<8>();
        let stamp = stamps.first().copied().unwrap_or_default();
        let is_whole = rest.is_empty() && stamps.iter().all(|other| *other == stamp);
        let stamp = if is_whole { u64::from_le_bytes(stamp) } else { 0 };
        Self { stamp, times: u32::try_from(stamps.len()).unwrap_or(u32::MAX) }
    }
}

impl When {
    /// In milliseconds since 1970, seen from `now`.
    pub(crate) fn from(self, now: u64) -> u64 {
        match self {
            Self::Past => now.saturating_sub(1_000),
            Self::Soon(after) | Self::Flaky(after) => now + after,
            Self::Far => now + FAR,
        }
    }
}

/// A step, split where it syncs: each part is stored whole or not at all, one after the other.
pub(crate) fn parts(room: &str, number: u64) -> Vec<Vec<Action>> {
    let step = step(room, number);
    step.split(|action| *action == Action::Sync).map(<[Action]>::to_vec).collect()
}

/// The step that sets the alarm with this number.
pub(crate) fn step_of(alarm: u64) -> u64 {
    alarm / ALARMS
}

/// When this alarm of a room is to ring; `None` if no step sets it.
pub(crate) fn alarm(room: &str, number: u64) -> Option<When> {
    fn find(actions: &[Action], number: u64) -> Option<When> {
        actions.iter().find_map(|action| match action {
            Action::SetAlarm { number: set, when } => (*set == number).then_some(*when),
            Action::Together(actions) => find(actions, number),
            _ => None,
        })
    }
    find(&step(room, step_of(number)), number)
}

/// What a step does on the way to a failure: it must not be stored.
pub(crate) fn junk(room: &str, number: u64) -> Vec<Action> {
    let mut dice = Dice::new(room, number, 1);
    let mut junk = dice.puts(3);
    junk.push(Action::Put(format!("{JUNK}{number}"), dice.value()));
    junk.push(Action::Delete(vec![dice.single(), dice.single()]));
    match dice.below(4) {
        0 => junk.insert(0, Action::Clear),
        1 => junk.push(Action::DeleteAlarm),
        2 => junk.push(Action::SetAlarm { number: number * ALARMS + 7, when: When::Past }),
        _ => {}
    }
    junk
}

fn step(room: &str, number: u64) -> Vec<Action> {
    let mut dice = Dice::new(room, number, 0);
    let first = number * ALARMS;
    match dice.below(100) {
        0..30 => dice.puts(6),
        30..38 => dice.many(),
        38..46 => vec![dice.delete_many()],
        46..54 => {
            let inner = Action::InVain(junk(room, number));
            let together = [dice.puts(2), vec![inner], dice.puts(2)].concat();
            vec![Action::Together(together)]
        }
        54..60 => {
            let inner = Action::Together(dice.puts(2));
            [vec![Action::InVain([vec![inner], junk(room, number)].concat())], dice.puts(2)]
                .concat()
        }
        60..67 => [vec![Action::Clear], dice.puts(4)].concat(),
        67..70 => {
            [dice.puts(2), vec![Action::Clear], dice.many(), vec![Action::Clear], dice.puts(1)]
                .concat()
        }
        70..77 => [dice.puts(3), vec![Action::Sync], dice.puts(3)].concat(),
        77..81 => {
            let end = [vec![Action::Sync, dice.delete_many()], dice.puts(1)].concat();
            [dice.puts(2), vec![Action::Sync, Action::Clear], dice.puts(2), end].concat()
        }
        81..91 => vec![dice.alarm(first), dice.put()],
        91..95 => {
            let alarms = (0..3).map(|n| dice.alarm(first + n)).collect();
            vec![Action::Together(alarms), dice.put(), dice.alarm(first + 3)]
        }
        95..98 => vec![Action::DeleteAlarm, dice.put()],
        _ => vec![dice.alarm(first), Action::InVain(junk(room, number)), Action::Sync, dice.put()],
    }
}

/// Numbers that the room, the step and its purpose decide.
struct Dice(fastrand::Rng);

impl Dice {
    fn new(room: &str, number: u64, purpose: u64) -> Self {
        let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        let words = [number.to_le_bytes(), purpose.to_le_bytes()].concat();
        let bytes = room.bytes().chain(words);
        Self(fastrand::Rng::with_seed(bytes.fold(0xCBF2_9CE4_8422_2325, add)))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0.u64(..end)
    }

    /// Mostly small, sometimes larger than a block of the store, seldom larger than its whole log.
    fn value(&mut self) -> Value {
        let times = match self.0.u32(..100) {
            0..70 => self.0.u32(1..32),
            70..97 => self.0.u32(32..512),
            97..99 => self.0.u32(2_048..6_144),
            _ => self.0.u32(8_192..12_288),
        };
        Value { stamp: self.0.u64(1..), times }
    }

    fn single(&mut self) -> String {
        format!("single/{:02}", self.below(SINGLE))
    }

    fn put(&mut self) -> Action {
        Action::Put(self.single(), self.value())
    }

    /// Up to this many rows, some of them deleted.
    fn puts(&mut self, most: u64) -> Vec<Action> {
        let count = 1 + self.below(most);
        let one = |_| match self.below(4) {
            0 => Action::Delete(vec![self.single()]),
            _ => self.put(),
        };
        (0..count).map(one).collect()
    }

    fn many(&mut self) -> Vec<Action> {
        let keys = self.some();
        let put = |key| Action::Put(key, Value { stamp: self.0.u64(1..), times: self.0.u32(1..8) });
        keys.into_iter().map(put).collect()
    }

    fn delete_many(&mut self) -> Action {
        Action::Delete(self.some())
    }

    fn some(&mut self) -> Vec<String> {
        let (from, count) = (self.below(MANY), 30 + self.below(70));
        (from..from + count).map(|n| format!("many/{:03}", n % MANY)).collect()
    }

    fn alarm(&mut self, number: u64) -> Action {
        let when = match self.below(10) {
            0 | 1 => When::Past,
            2 => When::Far,
            3 => When::Flaky(self.below(100)),
            _ => When::Soon(self.below(200)),
        };
        Action::SetAlarm { number, when }
    }
}

/// What a stream has stored, as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) rows: BTreeMap<String, Value>,
    /// The alarm that was set last, unless it was deleted.
    pub(crate) alarm: Option<(u64, When)>,
    /// Alarms with smaller numbers went with everything else.
    pub(crate) cleared: u64,
}

impl Model {
    /// Does a part of the step with this number.
    pub(crate) fn apply(&mut self, actions: &[Action], number: u64) {
        for action in actions {
            match action {
                Action::Put(key, value) => {
                    self.rows.insert(key.clone(), *value);
                }
                Action::Delete(keys) => self.rows.retain(|key, _| !keys.contains(key)),
                Action::Clear => {
                    *self = Self { cleared: number * ALARMS, ..Self::default() };
                }
                Action::SetAlarm { number, when } => self.alarm = Some((*number, *when)),
                Action::DeleteAlarm => self.alarm = None,
                Action::Together(actions) => self.apply(actions, number),
                Action::InVain(_) | Action::Sync => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_and_half_of_it_shows() {
        let value = Value { stamp: 7, times: 3 };
        let mut bytes = value.bytes();
        assert_eq!(Value::read(&bytes), value);
        bytes[16] = 0;
        assert_eq!(Value::read(&bytes).stamp, 0);
        bytes.truncate(12);
        assert_eq!(Value::read(&bytes).stamp, 0);
    }

    #[test]
    fn steps_are_always_the_same_and_differ_from_room_to_room() {
        assert_eq!(step("a", 7), step("a", 7));
        assert!((0..20).any(|number| step("a", number) != step("b", number)));
    }

    #[test]
    fn steps_do_everything_that_there_is() {
        let all: Vec<Action> = (0..1_000).flat_map(|number| step("a", number)).collect();
        let has = |is: fn(&Action) -> bool| assert!(all.iter().any(is));
        has(|it| *it == Action::Clear);
        has(|it| *it == Action::Sync);
        has(|it| *it == Action::DeleteAlarm);
        has(|it| matches!(it, Action::InVain(_)));
        has(
            |it| matches!(it, Action::Together(it) if it.iter().any(|it| matches!(it, Action::InVain(_)))),
        );
        has(|it| matches!(it, Action::Delete(keys) if (30..=128).contains(&keys.len())));
        has(|it| matches!(it, Action::SetAlarm { when: When::Flaky(_), .. }));
        has(|it| matches!(it, Action::Put(_, value) if value.times > 8_192));
        assert!((0..1_000).any(|number| parts("a", number).len() == 3));
    }

    #[test]
    fn what_fails_leaves_nothing_in_the_model() {
        let mut model = Model::default();
        for number in 1..2_000 {
            parts("a", number).iter().for_each(|part| model.apply(part, number));
            assert!(!model.rows.keys().any(|key| key.starts_with(JUNK)));
        }
        assert!(model.cleared > 0 && !model.rows.is_empty());
    }
}
