//! Takes the place of `metrics.rs` without the feature, and does nothing.

use std::sync::Arc;

use http::StatusCode;
use partykit_core::Handler;

/// Counts nothing.
pub(crate) struct Meter;

impl Meter {
    pub(crate) fn new(_: &Arc<str>) -> Self {
        Self
    }

    pub(crate) fn connected(&self) {}

    pub(crate) fn disconnected(&self) {}

    pub(crate) fn room_made(&self) {}

    pub(crate) fn room_forgotten(&self) {}

    pub(crate) fn received(&self, _bytes: usize) {}

    pub(crate) fn sent(&self, _bytes: usize) {}

    pub(crate) fn slow_client(&self) {}

    pub(crate) fn rejected(&self, _: Handler) {}

    pub(crate) fn handshake_refused(&self, _: StatusCode) {}

    pub(crate) fn stopped(&self) {}
}

pub(crate) fn describe() {}

pub(crate) fn merge_postponed() {}
