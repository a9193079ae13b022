//! Which turn runs on this thread right now. It tells what a handler does from what others do at the
//! same time: a [`Connection`](crate::Connection) may be used by both.

use std::cell::Cell;

use crate::machine::{Scope, TransactionId, TurnId};

thread_local! {
    static CURRENT: Cell<Option<Current>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Current {
    /// The address of the room's cell.
    room: usize,
    scope: Scope,
}

/// Runs `f` as a part of a turn.
pub(crate) fn enter<T, R>(room: &T, turn: TurnId, f: impl FnOnce() -> R) -> R {
    let scope = Scope { turn, transaction: 0 };
    let _restore = Restore(CURRENT.replace(Some(Current { room: address(room), scope })));
    f()
}

/// Runs `f` as a part of a transaction of this room, if a turn of it runs on this thread.
pub(crate) fn enter_transaction<T, R>(
    room: &T,
    transaction: TransactionId,
    f: impl FnOnce() -> R,
) -> R {
    let _restore = Restore(CURRENT.get());
    if let Some(scope) = current(room) {
        let scope = Scope { transaction, ..scope };
        CURRENT.set(Some(Current { room: address(room), scope }));
    }
    f()
}

/// Restores the former scope, also on a panic.
struct Restore(Option<Current>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// The turn and transaction of this room whose code runs on this thread. `None` if there is no such code.
pub(crate) fn current<T>(room: &T) -> Option<Scope> {
    CURRENT.get().filter(|current| current.room == address(room)).map(|current| current.scope)
}

fn address<T>(room: &T) -> usize {
    std::ptr::from_ref(room).addr()
}
