//! Which turn runs on this thread right now. It tells what a handler does from what others do at the
//! same time: a [`Connection`](crate::Connection) may be used by both.

use std::cell::Cell;

use crate::machine::TurnId;

thread_local! {
    /// The address of the room's cell, and the turn.
    static CURRENT: Cell<Option<(usize, TurnId)>> = const { Cell::new(None) };
}

/// Runs `f` as a part of a turn.
pub(crate) fn enter<T, R>(room: &T, turn: TurnId, f: impl FnOnce() -> R) -> R {
    /// Restores on unwinding, too.
    struct Restore(Option<(usize, TurnId)>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(Some((address(room), turn))));
    f()
}

/// The turn of this room that runs on this thread, if one does.
pub(crate) fn current<T>(room: &T) -> Option<TurnId> {
    CURRENT.get().filter(|(at, _)| *at == address(room)).map(|(_, turn)| turn)
}

fn address<T>(room: &T) -> usize {
    std::ptr::from_ref(room).addr()
}
