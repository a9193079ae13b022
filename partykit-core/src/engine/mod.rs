//! What is kept of a room while nobody runs it, and what its driver and its runtime meet at: the cell,
//! the pump and the [`Host`](crate::runtime::Host).

pub(crate) mod call_error;
pub(crate) mod cell;
pub(crate) mod host;
pub(crate) mod pump;
pub(crate) mod scope;
pub(crate) mod sync;
pub(crate) mod wake_once;
