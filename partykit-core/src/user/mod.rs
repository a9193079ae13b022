//! What handlers implement and are given.

mod append;
pub(crate) mod broadcast;
pub(crate) mod calls;
pub(crate) mod clock;
pub(crate) mod lobby;
pub(crate) mod room;
pub(crate) mod row_stream;
#[cfg(feature = "schedules")]
pub(crate) mod schedules;
pub(crate) mod server;
pub(crate) mod storage;
pub(crate) mod task;
