//! Plain values. They know nothing of running rooms.

pub(crate) mod address;
pub(crate) mod alarm;
pub(crate) mod app_state;
pub(crate) mod chain;
pub(crate) mod close;
pub(crate) mod close_reason;
pub(crate) mod connection_id;
pub(crate) mod error_id;
pub(crate) mod failure;
pub(crate) mod handler;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod limits;
pub(crate) mod message;
pub(crate) mod options;
pub(crate) mod order;
pub(crate) mod refusal;
pub(crate) mod reject;
pub(crate) mod respond;
pub(crate) mod route;
pub(crate) mod shapes;
pub(crate) mod splitmix;
pub(crate) mod task_result;
pub(crate) mod time;
