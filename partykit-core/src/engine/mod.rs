//! What runs a room: its cell, the driver that is alone with it, and the way from a job to a handler.

pub(crate) mod alarm;
pub(crate) mod cell;
pub(crate) mod dispatch;
pub(crate) mod driver;
pub(crate) mod pump;
pub(crate) mod scope;
pub(crate) mod sync;
pub(crate) mod wake_once;
