//! How values are written as JSON whose own form would be unhandy.

use std::{fmt::Display, time::Duration};

use serde::{Serialize, Serializer};

/// In seconds, with a fraction.
pub(crate) fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// The same, or `null`.
pub(crate) fn maybe_seconds<S: Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}

/// A list of names with numbers, as an object.
pub(crate) fn counts<N: Display, S: Serializer>(
    counts: &[(N, u64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counts.iter().map(|(name, count)| (name.to_string(), count)))
}

/// What happened last, and when: `{ "cause": .., "at": .. }`, or `null`.
pub(crate) fn moment<N: Serialize, S: Serializer>(
    last: &Option<(N, Duration)>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Moment<'a, N> {
        cause: &'a N,
        at: f64,
    }

    let moment = last.as_ref().map(|(cause, at)| Moment { cause, at: at.as_secs_f64() });
    moment.serialize(serializer)
}
