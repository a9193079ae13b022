use std::time::Duration;

use super::wake_cause::WakeCause;
use crate::{Handler, Refusal};

/// Something about a room that a runtime may want to count: what
/// [`Host::observe`](crate::runtime::Host::observe) is told.
///
/// Every [`Woke`](Fact::Woke) is followed by one [`Slept`](Fact::Slept), [`Reset`](Fact::Reset) or
/// [`StartFailed`](Fact::StartFailed), so that rooms with an instance can be counted.
///
/// ```
/// use std::sync::atomic::{AtomicI64, Ordering};
/// use partykit_core::runtime::Fact;
///
/// /// How many rooms have an instance.
/// static AWAKE: AtomicI64 = AtomicI64::new(0);
///
/// fn observe(fact: Fact) {
///     match fact {
///         Fact::Woke(_) => AWAKE.fetch_add(1, Ordering::Relaxed),
///         Fact::Slept { .. } | Fact::Reset { .. } | Fact::StartFailed => {
///             AWAKE.fetch_sub(1, Ordering::Relaxed)
///         }
///         _ => 0,
///     };
/// }
/// # observe(Fact::StartFailed);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// An alarm is given up, because its handler failed too often.
    AlarmGivenUp,
    /// A new attempt to ring an alarm or to run a schedule has found that the process ended during the last
    /// one.
    AlarmDied {
        /// How often by now.
        deaths: u32,
    },
    /// A broadcast left, to this many connections.
    Broadcast {
        /// Its receivers.
        receivers: usize,
    },
    /// A commit has ended.
    Committed {
        /// How long the backend took.
        took: Duration,
        /// Nothing was stored.
        failed: bool,
    },
    /// A handler has ended.
    Handled {
        /// Which one.
        handler: Handler,
        /// How long it took, with all that it waited for.
        took: Duration,
        /// It returned an error, panicked or was cancelled.
        failed: bool,
    },
    /// An event was not taken. A message that is refused because the room is
    /// [`Overloaded`](Refusal::Overloaded) waits at its socket and comes again.
    Refused(Refusal),
    /// A function of the server returned a [`Reject`](crate::Reject): a client sent something wrong.
    Rejected {
        /// Which one: a handler, or a before-hook.
        handler: Handler,
    },
    /// The instance was dropped because of a failure.
    Reset {
        /// How long it had been in memory.
        awake: Duration,
    },
    /// A run of a schedule is given up, because its handler failed too often.
    ScheduleGivenUp,
    /// The room was idle and its instance is dropped.
    Slept {
        /// How long it had been in memory.
        awake: Duration,
    },
    /// The room could not be claimed, or `on_start` failed.
    StartFailed,
    /// An event made an instance necessary.
    Woke(WakeCause),
}
