use serde::{Serialize, de::DeserializeOwned};

use crate::{JsonError, Timestamp};

/// A run of a schedule: what [`Server::on_schedule`](crate::Server::on_schedule) is told.
///
/// ```
/// use partykit_core::{Result, Room, Run, Server};
///
/// struct Digest;
///
/// impl Server for Digest {
///     async fn on_schedule(&mut self, room: &Room, run: Run) -> Result {
///         let title: String = run.payload()?;
///         let late = room.now().since(run.scheduled);
///         room.broadcast(format!("{title}, late by {late:?}, {} left out", run.missed)).send();
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// The schedule's name.
    pub name: String,
    /// When it was to run.
    pub scheduled: Timestamp,
    /// How often it should have run since then. This run stands for all of these: nothing is run twice. At
    /// most 1,000 are counted. 0 for a schedule that runs once.
    pub missed: u32,
    /// How often the handler has failed for this run: 0 the first time, 6 at most.
    pub retries: u32,
    /// How often the process has ended while the handler ran. This has no limit, and uses up no retry.
    pub deaths: u32,
    pub(crate) payload: Option<String>,
}

impl Run {
    /// What [`Schedules::set_with`](crate::Schedules::set_with) was given. Without it, this is JSON's `null`.
    ///
    /// # Errors
    ///
    /// When it is not of this shape.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        from_json(self.payload.as_deref())
    }
}

/// A schedule as it is stored.
///
/// ```
/// use partykit_core::{Room, ScheduleError};
///
/// async fn next_run(room: &Room, name: &str) -> Result<String, ScheduleError> {
///     let schedule = room.schedules().get(name).await?;
///     Ok(match schedule.and_then(|schedule| schedule.next) {
///         Some(next) => format!("{name} runs at {next}"),
///         None => format!("{name} does not run"),
///     })
/// }
/// # let _ = next_run;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// When it runs, as it was set.
    pub when: crate::When,
    /// When it runs next, or is tried again. `None` if an operator has stopped it.
    pub next: Option<Timestamp>,
    /// How often its handler has failed for the run that comes next.
    pub retries: u32,
    /// How often the process has ended in that run.
    pub deaths: u32,
    pub(crate) payload: Option<String>,
}

impl Schedule {
    /// What [`Schedules::set_with`](crate::Schedules::set_with) was given. Without it, this is JSON's `null`.
    ///
    /// # Errors
    ///
    /// When it is not of this shape.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        from_json(self.payload.as_deref())
    }
}

fn from_json<T: DeserializeOwned>(json: Option<&str>) -> Result<T, JsonError> {
    serde_json::from_str(json.unwrap_or("null")).map_err(JsonError::new)
}
