//! What is kept of a room between its handlers, and where its driver and its runtime meet: the cell,
//! the pump and the [`Host`](crate::runtime::Host).

pub(crate) mod call_error;
pub(crate) mod cell;
pub(crate) mod host;
pub(crate) mod pump;
pub(crate) mod scope;
pub(crate) mod sync;
pub(crate) mod wake_once;
