//! What a runtime needs to run rooms: it gives a [`Host`] and the [`Socket`]s, keeps a [`RoomCell`] for
//! each room, tells it what happens, and runs [`drive`] when asked to.

mod answer;
pub(crate) mod attachment;
pub mod front;
pub(crate) mod host;
mod origins;

pub use self::{
    answer::{INTERNAL_HEADERS, answer, failure, fit, strip_internal},
    attachment::{Attachment, AttachmentError},
    host::{Host, Outgoing, Socket},
    origins::{InvalidOrigin, Origins, Visitor, parse_host},
};
pub use crate::{
    engine::{
        cell::{Resumed, RoomCell},
        driver::drive,
    },
    machine::{fact::Fact, mailboxes::Mailboxes},
    storage::{AlarmState, describe_row, read_alarm},
    user::{calls::Chain, lobby::hook_answer},
};
