//! What the runtime counts, for the [`metrics`] facade: names, units and meanings.
//!
//! Install a recorder **before** you build the runtime, which asks for its counters only once. All metrics
//! have the label `party`. There is no label for the room, because there may be millions of rooms.
//! ([`Handle::room_stats`](crate::Handle::room_stats) tells what one room does.)
//!
//! ```
//! use partykit_core::Server;
//! use partykit_runtime_tokio::{Runtime, metrics};
//!
//! #[derive(Default)]
//! struct Chat;
//! impl Server for Chat {}
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> partykit_core::Result {
//! // First, for example: PrometheusBuilder::new().install_recorder()?
//! let runtime = Runtime::builder().party::<Chat>("chat").in_memory().build()?;
//! # assert!(metrics::CONNECTIONS.starts_with("partykit_"));
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use http::StatusCode;
use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use partykit_core::{Handler, Refusal, WakeCause, runtime::Fact};

/// Gauge: open WebSockets.
pub const CONNECTIONS: &str = "partykit_connections";
/// Gauge: rooms in memory, asleep with connections or awake.
pub const ROOMS: &str = "partykit_rooms";
/// Gauge: rooms with an instance, or about to have one.
pub const ROOMS_AWAKE: &str = "partykit_rooms_awake";
/// Counter: instances that were made, by `cause`: `connect`, `message` and so on.
pub const WAKES: &str = "partykit_wakes_total";
/// Counter: instances that were dropped because their room was idle.
pub const SLEEPS: &str = "partykit_sleeps_total";
/// Counter: instances that were dropped because of a failure.
pub const RESETS: &str = "partykit_resets_total";
/// Counter: rooms that could not be claimed, or whose `on_start` failed.
pub const FAILED_STARTS: &str = "partykit_failed_starts_total";
/// Histogram, seconds: how long an instance was in memory.
pub const AWAKE: &str = "partykit_awake_seconds";
/// Counter: messages from clients, without those that got an auto-response.
pub const MESSAGES_RECEIVED: &str = "partykit_messages_received_total";
/// Counter, bytes: payloads of the messages from clients.
pub const BYTES_RECEIVED: &str = "partykit_messages_received_bytes_total";
/// Counter: messages to clients, counted for each client, without auto-responses.
pub const MESSAGES_SENT: &str = "partykit_messages_sent_total";
/// Counter, bytes: payloads of the messages to clients.
pub const BYTES_SENT: &str = "partykit_messages_sent_bytes_total";
/// Counter: broadcasts.
pub const BROADCASTS: &str = "partykit_broadcasts_total";
/// Counter: connections to which broadcasts went.
pub const BROADCAST_DELIVERIES: &str = "partykit_broadcast_deliveries_total";
/// Histogram, seconds: how long a `handler` (such as `on_message`) took, with the time that it waited.
pub const HANDLER: &str = "partykit_handler_seconds";
/// Counter: handlers that returned an error, panicked or were cancelled, by `handler`.
pub const HANDLER_FAILURES: &str = "partykit_handler_failures_total";
/// Counter: events that a handler or before-hook refused with a [`Reject`](partykit_core::Reject), by
/// `handler`.
pub const REJECTED: &str = "partykit_rejected_total";
/// Histogram, seconds: how long the store took for a room's commit. Its count is the number of commits.
pub const COMMIT: &str = "partykit_commit_seconds";
/// Counter: commits that failed.
pub const COMMIT_FAILURES: &str = "partykit_commit_failures_total";
/// Counter: how often files of the store could not be merged because the disk had no space for it. Without
/// labels.
pub const MERGES_POSTPONED: &str = "partykit_merges_postponed_total";
/// Counter: alarms whose last retry has failed.
pub const ALARMS_GIVEN_UP: &str = "partykit_alarms_given_up_total";
/// Counter: runs of schedules whose last retry has failed.
pub const SCHEDULES_GIVEN_UP: &str = "partykit_schedules_given_up_total";
/// Counter: alarms and schedules whose last attempt was cut off because the process ended. Counted at the next attempt.
pub const ALARMS_DIED: &str = "partykit_alarms_died_total";
/// Counter: clients that were closed because they read too slowly.
pub const SLOW_CLIENTS: &str = "partykit_slow_clients_total";
/// Counter: WebSocket handshakes that were not answered with 101, by `status`. Only for registered parties.
pub const HANDSHAKES_REFUSED: &str = "partykit_handshakes_refused_total";
/// Counter: events that a room did not take, by `reason`: `overloaded` (its mailbox is full; a message then
/// waits in its socket and is tried again), `full`, `unavailable`, `shutting_down`.
pub const EVENTS_REFUSED: &str = "partykit_events_refused_total";

/// All handlers. Their histograms are asked for only once.
const HANDLERS: [Handler; 9] = [
    Handler::OnAlarm,
    Handler::OnClose,
    Handler::OnConnect,
    Handler::OnError,
    Handler::OnMessage,
    Handler::OnRequest,
    Handler::OnSchedule,
    Handler::OnStart,
    Handler::OnTask,
];

/// What rooms wake for.
const CAUSES: [WakeCause; 7] = [
    WakeCause::Alarm,
    WakeCause::Connect,
    WakeCause::Disconnect,
    WakeCause::Error,
    WakeCause::Message,
    WakeCause::Request,
    WakeCause::Task,
];

/// Counts that the store had no space to merge its files.
pub(crate) fn merge_postponed() {
    counter!(MERGES_POSTPONED).increment(1);
}

/// Counts for one party.
pub(crate) struct Meter {
    party: Arc<str>,
    connections: Gauge,
    rooms: Gauge,
    awake: Gauge,
    awake_time: Histogram,
    received: (Counter, Counter),
    sent: (Counter, Counter),
    broadcasts: (Counter, Counter),
    handlers: [Histogram; HANDLERS.len()],
    commits: Histogram,
    slow_clients: Counter,
    sleeps: Counter,
    wakes: [Counter; CAUSES.len()],
}

impl Meter {
    pub(crate) fn new(party: &Arc<str>) -> Self {
        let of = || party.clone();
        let handler =
            |handler: Handler| histogram!(HANDLER, "party" => of(), "handler" => handler.name());
        Self {
            party: party.clone(),
            connections: gauge!(CONNECTIONS, "party" => of()),
            rooms: gauge!(ROOMS, "party" => of()),
            awake: gauge!(ROOMS_AWAKE, "party" => of()),
            awake_time: histogram!(AWAKE, "party" => of()),
            received: (
                counter!(MESSAGES_RECEIVED, "party" => of()),
                counter!(BYTES_RECEIVED, "party" => of()),
            ),
            sent: (counter!(MESSAGES_SENT, "party" => of()), counter!(BYTES_SENT, "party" => of())),
            broadcasts: (
                counter!(BROADCASTS, "party" => of()),
                counter!(BROADCAST_DELIVERIES, "party" => of()),
            ),
            handlers: HANDLERS.map(handler),
            commits: histogram!(COMMIT, "party" => of()),
            slow_clients: counter!(SLOW_CLIENTS, "party" => of()),
            sleeps: counter!(SLEEPS, "party" => of()),
            wakes: CAUSES.map(|cause| counter!(WAKES, "party" => of(), "cause" => cause.name())),
        }
    }

    pub(crate) fn connected(&self) {
        self.connections.increment(1);
    }

    pub(crate) fn disconnected(&self) {
        self.connections.decrement(1);
    }

    pub(crate) fn room_made(&self) {
        self.rooms.increment(1);
    }

    pub(crate) fn room_forgotten(&self) {
        self.rooms.decrement(1);
    }

    pub(crate) fn received(&self, bytes: usize) {
        add(&self.received, 1, bytes);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        add(&self.sent, 1, bytes);
    }

    pub(crate) fn slow_client(&self) {
        self.slow_clients.increment(1);
    }

    pub(crate) fn rejected(&self, handler: Handler) {
        counter!(REJECTED, "party" => self.party.clone(), "handler" => handler.name()).increment(1);
    }

    pub(crate) fn handshake_refused(&self, status: StatusCode) {
        let status = status.as_u16().to_string();
        counter!(HANDSHAKES_REFUSED, "party" => self.party.clone(), "status" => status)
            .increment(1);
    }

    pub(crate) fn observe(&self, fact: Fact) {
        let of = || self.party.clone();
        match fact {
            Fact::AlarmDied { .. } => counter!(ALARMS_DIED, "party" => of()).increment(1),
            Fact::AlarmGivenUp => counter!(ALARMS_GIVEN_UP, "party" => of()).increment(1),
            Fact::ScheduleGivenUp => counter!(SCHEDULES_GIVEN_UP, "party" => of()).increment(1),
            Fact::Broadcast { receivers } => add(&self.broadcasts, 1, receivers),
            Fact::Committed { took, failed } => {
                self.commits.record(took);
                if failed {
                    counter!(COMMIT_FAILURES, "party" => of()).increment(1);
                }
            }
            Fact::Handled { handler, took, failed } => {
                match HANDLERS.iter().position(|known| *known == handler) {
                    Some(known) => self.handlers[known].record(took),
                    None => histogram!(HANDLER, "party" => of(), "handler" => handler.name())
                        .record(took),
                }
                if failed {
                    counter!(HANDLER_FAILURES, "party" => of(), "handler" => handler.name())
                        .increment(1);
                }
            }
            Fact::Refused(refusal) => {
                counter!(EVENTS_REFUSED, "party" => of(), "reason" => reason(refusal)).increment(1);
            }
            Fact::Rejected { handler } => self.rejected(handler),
            Fact::Reset { awake } => {
                counter!(RESETS, "party" => of()).increment(1);
                self.awake_time.record(awake);
                self.awake.decrement(1);
            }
            Fact::Slept { awake } => {
                self.sleeps.increment(1);
                self.awake_time.record(awake);
                self.awake.decrement(1);
            }
            Fact::StartFailed => {
                counter!(FAILED_STARTS, "party" => of()).increment(1);
                self.awake.decrement(1);
            }
            Fact::Woke(cause) => {
                match CAUSES.iter().position(|known| *known == cause) {
                    Some(known) => self.wakes[known].increment(1),
                    None => counter!(WAKES, "party" => of(), "cause" => cause.name()).increment(1),
                }
                self.awake.increment(1);
            }
            _ => {}
        }
    }

    /// Called when the runtime is down and its rooms are gone.
    pub(crate) fn stopped(&self) {
        self.rooms.set(0);
        self.awake.set(0);
    }
}

/// Gives the recorder the units and meanings of all names.
pub(crate) fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_gauge!(CONNECTIONS, Unit::Count, "Open WebSockets");
    describe_gauge!(ROOMS, Unit::Count, "Rooms in memory, asleep with connections or awake");
    describe_gauge!(ROOMS_AWAKE, Unit::Count, "Rooms with an instance");
    describe_histogram!(AWAKE, Unit::Seconds, "How long an instance was in memory");
    describe_histogram!(HANDLER, Unit::Seconds, "How long a handler took");
    describe_counter!(MERGES_POSTPONED, Unit::Count, "Merges for which the disk had no space");
    describe_histogram!(COMMIT, Unit::Seconds, "How long the store took for a commit");
    for (name, unit, text) in [
        (WAKES, Unit::Count, "Instances that were made necessary, by cause"),
        (SLEEPS, Unit::Count, "Instances that were dropped because their room was idle"),
        (RESETS, Unit::Count, "Instances that a failure took"),
        (FAILED_STARTS, Unit::Count, "Rooms that could not start"),
        (MESSAGES_RECEIVED, Unit::Count, "Messages from clients"),
        (BYTES_RECEIVED, Unit::Bytes, "Payloads of messages from clients"),
        (MESSAGES_SENT, Unit::Count, "Messages to clients"),
        (BYTES_SENT, Unit::Bytes, "Payloads of messages to clients"),
        (BROADCASTS, Unit::Count, "Broadcasts"),
        (BROADCAST_DELIVERIES, Unit::Count, "Connections to which broadcasts went"),
        (HANDLER_FAILURES, Unit::Count, "Handlers that failed"),
        (REJECTED, Unit::Count, "What clients sent wrongly, by handler"),
        (COMMIT_FAILURES, Unit::Count, "Commits that failed"),
        (
            ALARMS_DIED,
            Unit::Count,
            "Alarms and schedules that were cut off by the end of the process",
        ),
        (ALARMS_GIVEN_UP, Unit::Count, "Alarms that rang in vain for the last time"),
        (SCHEDULES_GIVEN_UP, Unit::Count, "Runs of schedules that failed for the last time"),
        (SLOW_CLIENTS, Unit::Count, "Clients that were closed because they read too slowly"),
        (HANDSHAKES_REFUSED, Unit::Count, "WebSocket handshakes that were not answered with 101"),
        (EVENTS_REFUSED, Unit::Count, "Events that a room did not take, by reason"),
    ] {
        describe_counter!(name, unit, text);
    }
}

fn add(counters: &(Counter, Counter), first: u64, second: usize) {
    counters.0.increment(first);
    counters.1.increment(second as u64);
}

fn reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Full => "full",
        Refusal::Overloaded => "overloaded",
        Refusal::ShuttingDown => "shutting_down",
        Refusal::Unavailable(_) => "unavailable",
        _ => "failed",
    }
}
