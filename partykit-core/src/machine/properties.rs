//! What a room promises, tried with many thousands of random stories.
//!
//! [`op`] says what may happen, [`world`] makes it happen to a [`Machine`](super::Machine), [`handler`] is
//! the handler that runs, [`outputs`] does what the machine wants done, and [`model`] says what ought to
//! come of it. Each [`Property`] is a test of its own. Each of the last tests does something wrong on
//! purpose and sees that it is noticed.

mod alarms;
mod checks;
mod client;
mod handler;
mod model;
mod op;
mod outputs;
mod property;
mod rejected;
mod rows;
mod stories;
mod world;

use std::sync::atomic::Ordering;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use proptest_state_machine::ReferenceStateMachine;

use self::{
    op::Steps,
    property::Property,
    world::{Fault, World},
};

#[test]
fn nothing_overtakes_and_nothing_comes_twice() {
    holds(Property::Order);
}

#[test]
fn what_leaves_follows_only_writes_that_a_crash_right_then_would_keep() {
    holds(Property::Gate);
}

#[test]
fn the_store_holds_what_a_prefix_of_the_successful_handlers_wrote() {
    holds(Property::Storage);
}

#[test]
fn what_is_taken_back_never_leaves_and_all_else_does_at_once() {
    holds(Property::Rollback);
}

#[test]
fn handlers_run_one_after_another_on_an_instance_that_has_started() {
    holds(Property::OneHandler);
}

#[test]
fn events_are_handled_in_the_order_in_which_they_came() {
    holds(Property::Arrival);
}

#[test]
fn a_room_sleeps_if_and_only_if_nothing_is_pending() {
    holds(Property::Sleep);
}

#[test]
fn every_request_and_every_handshake_gets_one_answer() {
    holds(Property::Answers);
}

#[test]
fn every_connection_that_came_in_has_one_on_close() {
    holds(Property::Closes);
}

#[test]
fn one_commit_is_in_flight_under_the_newest_claim() {
    holds(Property::Commits);
}

#[test]
fn states_are_rolled_back_with_their_handlers_and_with_failed_commits() {
    holds(Property::States);
}

#[test]
fn a_handler_reads_its_own_writes_and_those_of_all_successful_ones() {
    holds(Property::Reads);
}

#[test]
fn a_cancelled_task_never_starts() {
    holds(Property::Tasks);
}

#[test]
fn every_running_handler_has_a_deadline() {
    holds(Property::Deadlines);
}

#[test]
fn a_room_that_shuts_down_begins_nothing() {
    holds(Property::Drain);
}

#[test]
fn a_clients_fault_is_undone_and_takes_no_instance() {
    holds(Property::Rejected);
}

#[test]
fn a_clients_fault_that_takes_the_instance_is_noticed() {
    is_noticed(Fault::RejectedFails, Property::Rejected);
}

#[test]
fn an_alarm_rings_when_it_is_due_and_is_stored_until_its_handler_has_succeeded() {
    holds(Property::Alarms);
}

#[test]
fn an_open_gate_is_noticed() {
    is_noticed(Fault::OpenGate, Property::Gate);
}

#[test]
fn a_commit_that_the_store_forgets_is_noticed() {
    is_noticed(Fault::LostCommit, Property::Gate);
}

#[test]
fn a_frame_that_overtakes_is_noticed() {
    is_noticed(Fault::Overtaken, Property::Order);
}

#[test]
fn a_lost_answer_is_noticed() {
    is_noticed(Fault::LostAnswer, Property::Answers);
}

#[test]
fn a_guard_that_the_room_ignores_is_noticed() {
    is_noticed(Fault::HiddenGuard, Property::Sleep);
}

#[test]
fn a_state_that_survives_its_failed_commit_is_noticed() {
    is_noticed(Fault::StateKept, Property::States);
}

#[test]
fn an_alarm_that_is_removed_when_it_begins_to_ring_is_noticed() {
    is_noticed(Fault::RemovedAlarm, Property::Alarms);
}

#[test]
fn an_alarm_that_rings_before_its_time_is_noticed() {
    is_noticed(Fault::EarlyRing, Property::Alarms);
}

#[test]
fn a_wake_up_that_the_store_forgets_is_noticed() {
    is_noticed(Fault::NoWakeUp, Property::Alarms);
}

#[test]
fn an_alarm_whose_handler_begins_before_that_is_stored_is_noticed() {
    is_noticed(Fault::EarlyHandler, Property::Alarms);
}

#[test]
fn an_attempt_that_a_dead_process_would_come_back_to_at_once_is_noticed() {
    is_noticed(Fault::NoPause, Property::Alarms);
}

fn holds(property: Property) {
    let mut runner = TestRunner::new(config());
    if let Err(error) = tell_stories(&mut runner, Fault::None, property) {
        panic!("{property:?} does not hold.\n{error}");
    }
}

fn is_noticed(fault: Fault, property: Property) {
    // As many cases as it takes; the same ones each time.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config { cases: 10_000, max_shrink_iters: 1, ..config() };
    let told = tell_stories(&mut TestRunner::new_with_rng(config, rng), fault, property);
    assert!(matches!(told, Err(TestError::Fail(..))), "{fault:?} is not noticed: {told:?}");
}

fn config() -> Config {
    // Each property has stories of its own, so fewer do than usual. Files with failed seeds would say
    // nothing once a step changes.
    let more = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if more { Config::default().cases } else { 128 };
    Config { cases, failure_persistence: None, ..Config::default() }
}

fn tell_stories(
    runner: &mut TestRunner,
    fault: Fault,
    property: Property,
) -> Result<(), TestError<impl std::fmt::Debug + use<>>> {
    runner.run(&Steps::sequential_strategy(1..100), |(setup, ops, seen)| {
        let mut world = World::new(&setup, fault);
        for op in &ops {
            if let Some(seen) = &seen {
                seen.fetch_add(1, Ordering::SeqCst);
            }
            world.step(op);
            verdict(&world, property)?;
        }
        world.settle();
        verdict(&world, property)
    })
}

fn verdict(world: &World, property: Property) -> Result<(), TestCaseError> {
    let broken = world.model.violations.iter().find(|(broken, _)| *broken == property);
    broken.map_or(Ok(()), |(_, what)| Err(TestCaseError::fail(what.clone())))
}
