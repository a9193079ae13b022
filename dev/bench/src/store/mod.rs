//! Where commits go: ours, and others to compare it with. Each is used as its authors would, with one
//! commit after another from each of many rooms.

mod fjall;
mod group;
mod log;
mod rows;
mod sqlite;

pub(crate) use self::{
    fjall::Fjall,
    group::Group,
    log::AppendOnlyLog,
    rows::{FjallRows, OneSqlite, row},
    sqlite::SqlitePerRoom,
};

/// The key of a room's one row.
pub(crate) fn key(room: usize) -> [u8; 12] {
    let mut key = *b"room00000000";
    key[4..].copy_from_slice(&(room as u64).to_be_bytes());
    key
}

/// A value of 100 bytes that is like no other: some engines skip a write that changes nothing.
pub(crate) fn value(room: usize, round: u64) -> [u8; 100] {
    let mut value = [0x5A; 100];
    value[..8].copy_from_slice(&(room as u64).to_le_bytes());
    value[8..16].copy_from_slice(&round.to_le_bytes());
    value
}
