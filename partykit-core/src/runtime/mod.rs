//! What a runtime needs to run rooms. A runtime implements [`Host`] and [`Socket`], keeps a [`RoomCell`] for
//! each room, tells it what happens, and runs [`drive`] when the host is asked to.

mod answer;
pub mod front;
mod origins;

pub use self::{
    answer::{INTERNAL_HEADERS, strip_internal},
    origins::{InvalidOrigin, Origins, Visitor, parse_host},
};
#[cfg(feature = "schedules")]
pub use crate::storage::read_schedules;
pub use crate::{
    connection::{
        attachment::{Attachment, AttachmentError},
        key::ConnectionKey,
        outgoing::Outgoing,
        socket::Socket,
    },
    driver::drive,
    engine::{
        cell::{Resumed, RoomCell},
        host::Host,
        kind::RoomKind,
    },
    machine::{Fact, Mailboxes},
    storage::{AlarmState, describe_row, read_alarm},
    value::{app_state::AppState, chain::Chain, close_reason::CloseReason, options::Chosen},
};
