//! Every interleaving of the lock that keeps a room to one driver, by loom: the same file that the
//! crate is built from, with loom's lock in it. Without the lock, or with a driver that looks and
//! leaves in two steps, loom has to find fault.
#![allow(clippy::duplicate_mod, reason = "once with the lock, once without")]

use std::{future::poll_fn, task::Poll};

use loom::{
    future::block_on,
    model,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

mod locked;
mod unlocked;

/// Events that wait for a room, and those of which it has had enough.
#[derive(Default)]
struct Room {
    waiting: usize,
    handled: usize,
}

/// A room and its driver, over one of the two modules.
macro_rules! house {
    ($name:ident, $module:ident) => {
        mod $name {
            use super::{
                $module::wake_once::{Call, WakeOnce},
                *,
            };

            pub(super) struct House {
                pub(super) room: WakeOnce<Room>,
                pub(super) starts: AtomicUsize,
                drivers: AtomicUsize,
                /// This many events the room stays awake for.
                pub(super) awake_for: usize,
                /// The driver looks whether there is work and ends, as one step.
                pub(super) careful: bool,
            }

            impl House {
                pub(super) fn new(awake_for: usize, careful: bool) -> Arc<Self> {
                    Arc::new(Self {
                        room: WakeOnce::new(Room::default()),
                        starts: AtomicUsize::new(0),
                        drivers: AtomicUsize::new(0),
                        awake_for,
                        careful,
                    })
                }

                /// An event, and whatever it brings about.
                pub(super) fn event(&self) {
                    let ((), call) = self.room.enter(|room| {
                        room.waiting += 1;
                        ((), true)
                    });
                    match call {
                        Call::Nothing => {}
                        Call::Start => self.drive(),
                        Call::Wake(driver) => driver.wake(),
                    }
                }

                fn drive(&self) {
                    self.starts.fetch_add(1, SeqCst);
                    assert_eq!(self.drivers.fetch_add(1, SeqCst), 0, "two drivers");
                    block_on(poll_fn(|cx| {
                        loop {
                            let had = self.room.take(cx.waker(), |room| {
                                let had = std::mem::take(&mut room.waiting);
                                room.handled += had;
                                had
                            });
                            if had > 0 {
                                continue;
                            }
                            if !self.careful && !self.may_rest(&self.room.lock()) {
                                return Poll::Pending;
                            }
                            let rest = |room: &mut Room| {
                                (!self.careful || self.may_rest(room))
                                    .then(|| assert_eq!(self.drivers.fetch_sub(1, SeqCst), 1))
                            };
                            match self.room.retire(rest) {
                                Some(()) => return Poll::Ready(()),
                                None if self.room.lock().waiting > 0 => {}
                                None => return Poll::Pending,
                            }
                        }
                    }));
                }

                fn may_rest(&self, room: &Room) -> bool {
                    room.waiting == 0 && room.handled >= self.awake_for
                }
            }

            /// This many threads, each with an event; nothing may be left of it.
            pub(super) fn run(events: usize, awake_for: usize, careful: bool) {
                let mut builder = model::Builder::new();
                // Every interleaving of two threads; of three, those with at most two preemptions.
                builder.preemption_bound = (events > 2).then_some(2);
                builder.check(move || {
                    let house = House::new(awake_for, careful);
                    let others: Vec<_> = (1..events)
                        .map(|_| {
                            let house = house.clone();
                            thread::spawn(move || house.event())
                        })
                        .collect();
                    house.event();
                    others.into_iter().for_each(|other| other.join().unwrap());
                    let room = house.room.lock();
                    assert!(!room.is_driven(), "a driver is left");
                    assert_eq!((room.waiting, room.handled), (0, events), "an event is left");
                    let starts = house.starts.load(SeqCst);
                    assert!(starts >= 1 && (awake_for < events || starts == 1), "{starts} starts");
                });
            }
        }
    };
}

house!(right, locked);
house!(wrong, unlocked);

/// The driver ends as soon as it can, so that each event finds none, or one, or one that is ending.
#[test]
fn a_driver_that_ends_leaves_nothing_behind() {
    right::run(2, 0, true);
    right::run(3, 0, true);
}

/// The driver waits for the last event, so that a wake-up that is lost is a deadlock.
#[test]
fn a_driver_that_waits_is_woken() {
    right::run(2, 2, true);
    right::run(3, 3, true);
}

#[test]
#[should_panic(expected = "two are inside")]
fn without_the_lock_two_are_inside() {
    wrong::run(2, 0, true);
}

#[test]
#[should_panic(expected = "is left")]
fn a_driver_that_looks_and_leaves_in_two_steps_leaves_an_event_behind() {
    right::run(2, 0, false);
}
