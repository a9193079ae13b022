//! Which turn runs on this thread right now. It tells what a handler does from what others do at the
//! same time: a [`Connection`](crate::Connection) may be used by both.

use std::cell::Cell;

use crate::machine::{TransactionId, TurnId};

thread_local! {
    static CURRENT: Cell<Option<Current>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Current {
    /// The address of the room's cell.
    room: usize,
    turn: TurnId,
    /// The innermost transaction inside of which this code is polled; 0 for none.
    transaction: TransactionId,
}

/// Runs `f` as a part of a turn.
pub(crate) fn enter<T, R>(room: &T, turn: TurnId, f: impl FnOnce() -> R) -> R {
    let _restore =
        Restore(CURRENT.replace(Some(Current { room: address(room), turn, transaction: 0 })));
    f()
}

/// Runs `f` as a part of a transaction of this room, if a turn of it runs on this thread.
pub(crate) fn enter_transaction<T, R>(
    room: &T,
    transaction: TransactionId,
    f: impl FnOnce() -> R,
) -> R {
    let outer = CURRENT.get();
    let _restore = Restore(outer);
    if let Some(current) = outer.filter(|current| current.room == address(room)) {
        CURRENT.set(Some(Current { transaction, ..current }));
    }
    f()
}

/// Restores on unwinding, too.
struct Restore(Option<Current>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// The turn of this room that runs on this thread, if one does.
pub(crate) fn current<T>(room: &T) -> Option<TurnId> {
    here(room).map(|current| current.turn)
}

/// The transaction of this room whose code runs on this thread; 0 for none.
pub(crate) fn transaction<T>(room: &T) -> TransactionId {
    here(room).map_or(0, |current| current.transaction)
}

fn here<T>(room: &T) -> Option<Current> {
    CURRENT.get().filter(|current| current.room == address(room))
}

fn address<T>(room: &T) -> usize {
    std::ptr::from_ref(room).addr()
}
