//! What a room stores, and the contract of backends.

mod alarm_row;
mod alarm_state;
mod backend;
mod bell;
mod error;
mod layers;
mod list;
mod memory;
pub(crate) mod row;
#[cfg_attr(not(feature = "schedules"), path = "no_schedule.rs")]
mod schedule;

pub(crate) use alarm_row::{AlarmRow, spread};
pub use alarm_state::{AlarmState, describe_row, read_alarm};
pub use backend::{Backend, BackendError, Batch, Claim, Epoch, KeyRange, WakeUp};
pub(crate) use bell::Bell;
pub use error::StorageError;
pub(crate) use layers::{Diff, Lookup, lookup};
pub use list::List;
pub use memory::MemoryBackend;
#[cfg(feature = "schedules")]
pub use schedule::read_schedules;
#[cfg(feature = "schedules")]
pub(crate) use schedule::{First, Plan, first, order, schedules};
pub(crate) use schedule::{Planned, Run, is_schedule, resolve};
