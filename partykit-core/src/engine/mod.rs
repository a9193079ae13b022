//! The cell keeps a room between its handlers. The pump does what the machine wants. The
//! [`Host`](crate::runtime::Host) is the runtime.

pub(crate) mod call_error;
pub(crate) mod cell;
mod delivery;
pub(crate) mod host;
pub(crate) mod kind;
pub(crate) mod pump;
pub(crate) mod scope;
pub(crate) mod sync;
pub(crate) mod wake_once;
