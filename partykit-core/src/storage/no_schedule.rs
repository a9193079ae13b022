//! What stands in the place of schedules in a program without the feature `schedules`. No bell is one, and the
//! compiler sees that: it leaves out what would ring it.
//!
//! Rows of schedules that an earlier program has stored stay as they are.

use std::future::{Ready, ready};

use bytes::Bytes;

use super::{AlarmRow, Backend, BackendError, Batch, Bell};
use crate::{Alarm, RoomAddress, Timestamp};

/// No schedule has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {}

pub(crate) type Planned = Plan;

/// None begins.
#[derive(Debug)]
pub(crate) enum Run {}

impl Plan {
    pub(super) fn key(&self) -> Bytes {
        match *self {}
    }

    pub(crate) fn name(&self) -> &str {
        match *self {}
    }

    pub(super) fn next(
        &self,
        _: Timestamp,
        _: Timestamp,
    ) -> Result<Option<Timestamp>, BackendError> {
        match *self {}
    }

    pub(super) fn run(&self, _: Alarm, _: Timestamp) -> Run {
        match *self {}
    }

    pub(super) fn encode(&self, _: AlarmRow) -> Bytes {
        match *self {}
    }

    pub(super) fn order(&self, _: &AlarmRow) -> Option<Bytes> {
        match *self {}
    }

    pub(super) fn describe(&self, _: &AlarmRow) -> serde_json::Value {
        match *self {}
    }
}

pub(super) fn decode(_: &[u8], _: &[u8]) -> Option<Result<Bell, BackendError>> {
    None
}

pub(crate) fn is_schedule(_: &[u8]) -> bool {
    false
}

/// A batch's wake-up is right as it is: only the alarm has one.
pub(crate) fn resolve(
    _: &mut Batch,
    _: &dyn Backend,
    _: &RoomAddress,
) -> Ready<Result<(), BackendError>> {
    ready(Ok(()))
}
