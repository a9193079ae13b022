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

pub(crate) use alarm_row::{AlarmRow, spread};
pub use alarm_state::{AlarmState, describe_row, read_alarm};
pub use backend::{Backend, BackendError, Batch, Claim, Epoch, KeyRange, WakeUp};
pub use bell::read_schedules;
pub(crate) use bell::{Bell, First, Plan, first, is_schedule, order, resolve, schedules};
pub use error::StorageError;
pub(crate) use layers::{Diff, Lookup, lookup};
pub use list::List;
pub use memory::MemoryBackend;
