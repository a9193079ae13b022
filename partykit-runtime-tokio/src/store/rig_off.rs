//! The hooks of the crash test, which do nothing here: see `rig.rs`.

use std::{fs::File, io, path::Path};

use super::record::Change;

#[derive(Debug, Default)]
pub(super) struct Replayed {}

impl Replayed {
    #[allow(clippy::unused_self, reason = "the other one needs it")]
    pub(super) fn commit(
        &mut self,
        changes: &mut dyn Iterator<Item = Change<'_>>,
        apply: impl Fn(&mut dyn Iterator<Item = Change<'_>>),
    ) {
        apply(changes);
    }

    pub(super) fn end(self, _: impl Fn(&mut dyn Iterator<Item = Change<'_>>)) {}
}

pub(super) const fn size(bytes: u64) -> u64 {
    bytes
}

pub(super) fn is_to_sync(_: &File) -> io::Result<bool> {
    Ok(true)
}

pub(super) const fn is_to_sync_directory() -> bool {
    true
}

pub(super) fn before_flush(_: &Path, _: u64) -> io::Result<()> {
    Ok(())
}

pub(super) const fn is_to_reconcile() -> bool {
    true
}

pub(super) const fn shows_wake_up() -> bool {
    true
}

pub(super) const fn forgets_past() -> bool {
    false
}
