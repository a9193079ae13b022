use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// A cron expression with a time zone, for [`When::Cron`](crate::When::Cron).
///
/// It has five fields: minute, hour, day of the month, month, day of the week (0 or 7 is Sunday). Names
/// (`MON`, `JAN`), lists (`1,3`), ranges (`MON-FRI`), steps (`*/15`), `L` (the last day), `#` (`MON#2`, the second
/// Monday) and `@daily`, `@hourly`, `@weekly`, `@monthly`, `@yearly` are understood.
///
/// The zone is UTC unless [`Cron::zone`] sets another one. When clocks go forward, a fixed time that does not
/// exist runs once, at the first moment after the gap. When clocks go back, a fixed time runs once, and an
/// interval (`*/30`) goes on in the second hour as well.
///
#[cfg_attr(feature = "cron", doc = "```")]
#[cfg_attr(not(feature = "cron"), doc = "```ignore")]
/// use partykit_core::{Cron, Timestamp};
///
/// let cron = Cron::new("0 9 * * MON-FRI")?.zone("+02:00")?;
/// let friday = Timestamp::from_millis(1_704_448_800_000); // 2024-01-05 10:00 UTC
/// let next = cron.next_after(friday).expect("there is a Monday");
/// assert_eq!(next.as_millis(), 1_704_697_200_000); // 2024-01-08 07:00 UTC
/// # Ok::<(), partykit_core::InvalidCron>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cron {
    expression: String,
    #[serde(default = "utc")]
    zone: String,
    #[serde(default)]
    seconds: bool,
}

/// The longest expression, in bytes.
#[cfg(feature = "cron")]
const LENGTH: usize = 256;

impl Cron {
    /// The expression, as it was given.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The name of the time zone, such as `UTC`, `+02:00` or `Europe/Berlin`.
    pub fn zone_name(&self) -> &str {
        &self.zone
    }
}

#[cfg(feature = "cron")]
impl Cron {
    /// An expression of five fields, in UTC.
    ///
    /// # Errors
    ///
    /// When it is not an expression of this kind. An expression that never comes true, such as the 30th of
    /// February, is refused when a schedule is set.
    pub fn new(expression: &str) -> Result<Self, InvalidCron> {
        Self::checked(expression, false)
    }

    /// An expression of six fields: the first one is the second.
    ///
    /// Each run costs two commits, so a schedule of every second is expensive.
    ///
    /// # Errors
    ///
    /// When it is not an expression of this kind.
    pub fn with_seconds(expression: &str) -> Result<Self, InvalidCron> {
        Self::checked(expression, true)
    }

    /// The same expression in another time zone: `UTC`, a fixed offset such as `+02:00`, or, with the feature
    /// `cron-zones`, a name of the IANA database such as `Europe/Berlin`.
    ///
    /// # Errors
    ///
    /// When there is no such zone in this build.
    pub fn zone(self, name: &str) -> Result<Self, InvalidCron> {
        Zone::parse(name)?;
        Ok(Self { zone: name.to_owned(), ..self })
    }

    /// The first moment of this expression after `after`. `None` if it has no time in the next years.
    ///
    /// It takes some 50 us; up to 150 ms for an expression that never comes true. So limit the rate at which
    /// clients send you expressions.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.first_after(after).ok().flatten()
    }

    fn checked(expression: &str, seconds: bool) -> Result<Self, InvalidCron> {
        let cron = Self { expression: expression.to_owned(), zone: utc(), seconds };
        cron.parse()?;
        Ok(cron)
    }

    fn parse(&self) -> Result<croner::Cron, InvalidCron> {
        use croner::parser::{CronParser, Seconds, Year};
        if self.expression.len() > LENGTH {
            return Err(InvalidCron::new(&self.expression, format!("it has over {LENGTH} bytes")));
        }
        let seconds = if self.seconds { Seconds::Required } else { Seconds::Disallowed };
        let parser = CronParser::builder().seconds(seconds).year(Year::Disallowed).build();
        parser.parse(&self.expression).map_err(|error| {
            let mut text = error.to_string();
            if !self.seconds && self.expression.split_whitespace().count() == 6 {
                text += " With a field for seconds: Cron::with_seconds.";
            }
            InvalidCron::new(&self.expression, text)
        })
    }

    pub(crate) fn first_after(&self, after: Timestamp) -> Result<Option<Timestamp>, InvalidCron> {
        Ok(self.after(after, Timestamp::from_millis(u64::MAX), 1)?.pop())
    }

    /// How many moments there are after `after` and not after `until`, counted up to `most`.
    pub(crate) fn count(&self, after: Timestamp, until: Timestamp, most: u32) -> u32 {
        self.after(after, until, most).map_or(0, |moments| moments.len() as u32)
    }

    /// The first moments after `after` and not after `until`.
    fn after(
        &self,
        after: Timestamp,
        until: Timestamp,
        most: u32,
    ) -> Result<Vec<Timestamp>, InvalidCron> {
        let cron = self.parse()?;
        let millis = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
        let Some(after) = chrono::DateTime::from_timestamp_millis(millis) else {
            return Ok(Vec::new());
        };
        Ok(match Zone::parse(&self.zone)? {
            Zone::Fixed(zone) => moments(&cron, after.with_timezone(&zone), until, most),
            #[cfg(feature = "cron-zones")]
            Zone::Named(zone) => moments(&cron, after.with_timezone(&zone), until, most),
        })
    }
}

/// Without the feature `cron`, an expression of an earlier build cannot be understood.
#[cfg(not(feature = "cron"))]
impl Cron {
    pub(crate) fn first_after(&self, _: Timestamp) -> Result<Option<Timestamp>, InvalidCron> {
        let text = "this program was built without the feature \"cron\"".to_owned();
        Err(InvalidCron::new(&self.expression, text))
    }

    pub(crate) fn count(&self, _: Timestamp, _: Timestamp, _: u32) -> u32 {
        0
    }
}

#[cfg(feature = "cron")]
fn moments<Z: chrono::TimeZone>(
    cron: &croner::Cron,
    after: chrono::DateTime<Z>,
    until: Timestamp,
    most: u32,
) -> Vec<Timestamp> {
    let mut moments = Vec::new();
    let mut last = after;
    while moments.len() < most as usize
        && let Ok(next) = cron.find_next_occurrence(&last, false)
        && let Ok(millis) = u64::try_from(next.timestamp_millis())
        && millis <= until.as_millis()
    {
        moments.push(Timestamp::from_millis(millis));
        last = next;
    }
    moments
}

#[cfg(feature = "cron")]
enum Zone {
    Fixed(chrono::FixedOffset),
    #[cfg(feature = "cron-zones")]
    Named(chrono_tz::Tz),
}

#[cfg(feature = "cron")]
impl Zone {
    fn parse(name: &str) -> Result<Self, InvalidCron> {
        if let Some(fixed) = offset(name) {
            return Ok(Self::Fixed(fixed));
        }
        #[cfg(feature = "cron-zones")]
        if let Ok(zone) = name.parse() {
            return Ok(Self::Named(zone));
        }
        let known = match cfg!(feature = "cron-zones") {
            true => "UTC, an offset such as +02:00, or a name such as Europe/Berlin",
            false => "UTC, or an offset such as +02:00 (names need the feature \"cron-zones\")",
        };
        let name: String = name.chars().take(64).collect();
        Err(InvalidCron::new(&name, format!("this is no time zone: give {known}")))
    }
}

/// `UTC`, `Z`, or an offset of hours and minutes.
#[cfg(feature = "cron")]
fn offset(name: &str) -> Option<chrono::FixedOffset> {
    if matches!(name, "UTC" | "Z") {
        return chrono::FixedOffset::east_opt(0);
    }
    let (sign, rest) = match name.as_bytes().first()? {
        b'+' => (1, &name[1..]),
        b'-' => (-1, &name[1..]),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let number = |text: &str, most: i32| {
        let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i32>().ok().filter(|number| is_plain && *number <= most)
    };
    let seconds = number(hours, 23)? * 3600 + number(minutes, 59)? * 60;
    chrono::FixedOffset::east_opt(sign * seconds)
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Why a [`Cron`] cannot be.
///
#[cfg_attr(feature = "cron", doc = "```")]
#[cfg_attr(not(feature = "cron"), doc = "```ignore")]
/// use partykit_core::Cron;
///
/// let error = Cron::new("61 * * * *").unwrap_err();
/// assert!(error.to_string().starts_with("\"61 * * * *\": "));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidCron {
    given: String,
    text: String,
}

impl InvalidCron {
    fn new(given: &str, text: String) -> Self {
        Self { given: given.chars().take(64).collect(), text }
    }
}

impl fmt::Display for InvalidCron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.given, self.text)
    }
}

#[cfg(all(test, feature = "cron"))]
mod tests;
