//! What is measured, one file each.

mod alarms;
mod allocations;
mod backups;
mod beside;
mod churn;
mod clear;
pub(crate) mod commits;
mod crowd;
mod deaf;
mod handover;
mod handshakes;
mod herd;
mod hostile;
mod memory;
mod readers;
mod rooms;
mod sleepers;
mod storm;
mod tls;
mod wake;
mod weight;
mod workers;

use std::{fs, io::ErrorKind, time::Duration};

use partykit::Result;

use crate::{
    options::Plan,
    report::{Part, Report},
};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// How often the servers take turns.
    pub(crate) turns: usize,
    /// Connections of one room, where many are in one. 20,000 descriptors are a common limit of a
    /// process, and the clients' process needs one for each too.
    pub(crate) crowd: usize,
    /// Broadcasts to them in a turn.
    pub(crate) broadcasts: u64,
    /// Those of them that ask for echoes, each one at a time.
    pub(crate) active: usize,
    /// How long echoes, or a storm, are measured in a turn.
    pub(crate) window: Duration,
    /// Connections that are made in a turn, each to a room of its own.
    pub(crate) fresh_rooms: usize,
    /// Handshakes, echoes and deliveries whose allocations are counted.
    pub(crate) counted: usize,
    /// Rooms, and the talkers in each of them.
    pub(crate) storms: [(usize, usize); 2],
    pub(crate) wake_rooms: usize,
    /// Wakes of each of them.
    pub(crate) wakes: usize,
    /// Wakes of a room that has `crowd` connections.
    pub(crate) wakes_of_many: usize,
    /// Connections of one room whose memory is measured.
    pub(crate) idle: usize,
    /// The same for as many as one process can have.
    pub(crate) most: usize,
    /// Rooms with one connection whose memory is measured.
    pub(crate) sleepers: usize,
    /// Connections with TLS whose memory is measured.
    pub(crate) idle_tls: usize,
    /// How often the servers take turns with memory.
    pub(crate) memory_turns: usize,
    /// Those that hear a broadcast of a Worker's room.
    pub(crate) worker_crowd: usize,
    /// Rooms of Workers that are woken in a turn, each as often as others.
    pub(crate) worker_rooms: usize,
    /// Connections of a Worker's room whose memory is measured. `workerd` needs two descriptors for each.
    pub(crate) worker_idle: usize,
    /// How often the servers take turns with that.
    pub(crate) worker_memory_turns: usize,
    /// How often they take turns with each event whose processor time is measured.
    pub(crate) worker_cost_turns: usize,
    /// What part of the warm-up they get before that: one in this many.
    pub(crate) worker_warm_up_part: u64,
    /// Rooms that are written, with a server of this revision or another.
    pub(crate) written: u64,
    /// Rooms that are written and sleep.
    pub(crate) rooms: u64,
    /// Alarms that are not due.
    pub(crate) pending: u64,
    /// Rows that are replaced, of 1 kB each.
    pub(crate) churn_rows: usize,
    /// How long they are.
    pub(crate) churn_window: Duration,
    /// How often the stores take turns with that.
    pub(crate) churn_turns: usize,
    /// Rows of a room that is cleared.
    pub(crate) cleared_rows: u64,
    /// How long the store may put its files in order before they are looked at.
    pub(crate) clear_rest: Duration,
    /// Rows that are pushed to a queue of ten, and popped.
    pub(crate) pops: u64,
    /// Clients that a server has places for, all of which one address wants.
    pub(crate) places: usize,
    /// Clients that never say what they want.
    pub(crate) half_handshakes: usize,
    /// Kinds of bursts that a handler says to clients that read.
    pub(crate) bursts: usize,
    /// Clients that read nothing.
    pub(crate) deaf: usize,
    /// Clients that come back at one moment.
    pub(crate) herd: usize,
    /// Clients whose server is replaced, those of them that talk, and how often each does.
    pub(crate) callers: usize,
    pub(crate) talkers: usize,
    pub(crate) talk_every: Duration,
    /// How often their server is replaced, and how long after one another.
    pub(crate) hand_overs: u32,
    pub(crate) hand_over_every: Duration,
    /// How long an allocator may take at most to give memory back.
    pub(crate) rest: Duration,
}

impl Sizes {
    pub(crate) const FULL: Self = Self {
        turns: 5,
        crowd: 9_900,
        broadcasts: 20,
        active: 100,
        window: Duration::from_secs(2),
        fresh_rooms: 5_000,
        counted: 2_000,
        storms: [(10, 100), (400, 10)],
        wake_rooms: 200,
        wakes: 3,
        wakes_of_many: 200,
        idle: 10_000,
        most: 19_000,
        sleepers: 10_000,
        idle_tls: 3_000,
        memory_turns: 3,
        written: 30_000,
        rooms: 100_000,
        pending: 1_000_000,
        worker_crowd: 1_000,
        worker_rooms: 100,
        worker_idle: 3_000,
        worker_memory_turns: 3,
        worker_cost_turns: 25,
        worker_warm_up_part: 1,
        churn_rows: 100_000,
        churn_window: Duration::from_secs(30),
        churn_turns: 3,
        cleared_rows: 1_000_000,
        clear_rest: Duration::from_secs(8),
        pops: 1_000_000,
        places: 17_500,
        half_handshakes: 2_400,
        bursts: 4,
        deaf: 2_000,
        herd: 8_000,
        callers: 10_000,
        talkers: 200,
        talk_every: Duration::from_millis(50),
        hand_overs: 5,
        hand_over_every: Duration::from_secs(6),
        rest: Duration::MAX,
    };

    pub(crate) const QUICK: Self = Self {
        turns: 1,
        crowd: 500,
        broadcasts: 5,
        active: 50,
        window: Duration::from_millis(300),
        fresh_rooms: 500,
        counted: 200,
        storms: [(4, 25), (40, 10)],
        wake_rooms: 10,
        wakes: 2,
        wakes_of_many: 5,
        idle: 500,
        most: 700,
        sleepers: 500,
        idle_tls: 100,
        memory_turns: 1,
        written: 1_000,
        rooms: 2_000,
        pending: 20_000,
        worker_crowd: 200,
        worker_rooms: 10,
        worker_idle: 300,
        worker_memory_turns: 1,
        worker_cost_turns: 3,
        worker_warm_up_part: 10,
        churn_rows: 6_400,
        churn_window: Duration::from_secs(1),
        churn_turns: 1,
        cleared_rows: 20_000,
        clear_rest: Duration::from_secs(2),
        pops: 10_000,
        places: 1_750,
        half_handshakes: 1_900,
        bursts: 2,
        deaf: 200,
        herd: 1_000,
        callers: 500,
        talkers: 50,
        talk_every: Duration::from_millis(50),
        hand_overs: 2,
        hand_over_every: Duration::from_secs(2),
        rest: Duration::from_millis(100),
    };
}

/// Takes all measures of a plan and reports. Whether the goals are reached, if that is asked.
///
/// # Errors
///
/// When something is not measured but broken.
pub(crate) fn all(plan: &Plan) -> Result<bool> {
    let mut missed = Vec::new();
    for part in plan.parts() {
        let mut report = Report::new(part);
        for (_, name, take) in MEASURES.iter().filter(|(of, ..)| *of == part) {
            if plan.takes(name) {
                eprintln!("measuring: {name}");
                take(&plan.sizes, &mut report).map_err(|error| format!("{name}: {error}"))?;
            }
        }
        if plan.quick {
            report.forget_goals();
        }
        let text = report.markdown(&plan.sizes);
        println!("{text}");
        if let Some(path) = &plan.write {
            let document = match fs::read_to_string(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
                document => document?,
            };
            fs::write(path, part.put(&document, &text))?;
        }
        missed.extend(report.missed());
    }
    for goal in &missed {
        eprintln!("missed: {goal}");
    }
    Ok(missed.is_empty() || !plan.check)
}

type Take = fn(&Sizes, &mut Report) -> Result<()>;

/// Each measure and its part. Those that have no part of their own go with storage.
const MEASURES: [(Part, &str, Take); 21] = [
    (Part::Sockets, "crowd", crowd::take),
    (Part::Sockets, "handshakes", handshakes::take),
    (Part::Sockets, "allocations", allocations::take),
    (Part::Sockets, "storm", storm::take),
    (Part::Sockets, "wake", wake::take),
    (Part::Sockets, "memory", memory::take),
    (Part::Sockets, "sleepers", sleepers::take),
    (Part::Sockets, "tls", tls::take),
    (Part::Storage, "commits", commits::take),
    (Part::Storage, "churn", churn::take),
    (Part::Storage, "clear", clear::take),
    (Part::Storage, "backups", backups::take),
    (Part::Storage, "alarms", alarms::take),
    (Part::Storage, "rooms", rooms::take),
    (Part::Storage, "hostile", hostile::take),
    (Part::Storage, "handover", handover::take),
    (Part::Storage, "readers", readers::take),
    (Part::Storage, "deaf", deaf::take),
    (Part::Storage, "herd", herd::take),
    (Part::Beside, "beside", beside::take),
    (Part::Workers, "workers", workers::take),
];

/// A room of which there are no others.
fn hall(_: usize) -> String {
    "hall".to_owned()
}

/// Rooms of which each has one connection.
fn own_room(index: usize) -> String {
    format!("room-{index}")
}

/// How many a second.
fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// Microseconds for each.
fn each(count: u64, time: Duration) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}
