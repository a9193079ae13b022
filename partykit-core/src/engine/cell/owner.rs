//! What the connections of a room ask it for.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::RoomCell;
use crate::{
    Close, Connection, StateError,
    connection::{Owner, outgoing::Outgoing},
    machine::{Machine, TurnId},
};

impl RoomCell {
    /// A connection may be used by the handler that runs, and by others at the same time.
    fn act<R>(self: &Arc<Self>, act: impl FnOnce(&mut Machine, Option<TurnId>) -> R) -> R {
        match self.in_turn() {
            Some((in_turn, turn)) => self.inside(&in_turn, |machine| act(machine, Some(turn))),
            None => self.outside(|machine, _| act(machine, None)),
        }
    }
}

impl Owner for RoomCell {
    fn send(self: Arc<Self>, connection: &Connection, frame: Arc<Outgoing>) {
        self.act(|machine, turn| machine.send(turn, connection, frame));
    }

    fn close(self: Arc<Self>, connection: &Connection, close: Close) {
        self.act(|machine, turn| machine.close(turn, connection, close));
    }

    fn set_state(
        self: Arc<Self>,
        connection: &Connection,
        state: Option<Bytes>,
    ) -> Result<(), StateError> {
        let size = state.as_ref().map_or(0, Bytes::len);
        self.act(|machine, turn| {
            if let Some(total) = machine.overfills(connection, size) {
                return Err(StateError::RoomTooLarge(total));
            }
            match turn.filter(|turn| machine.is_turn(*turn)) {
                Some(_) => machine.set_state(connection, state),
                None => drop(machine.replace_state(connection, state)),
            }
            Ok(())
        })
    }

    fn pending_state(&self, connection: &Connection) -> Option<Option<Bytes>> {
        let (in_turn, _) = self.in_turn()?;
        self.inside(&in_turn, |machine| machine.pending_state(connection))
    }

    fn lists(&self, connection: &Connection) -> bool {
        self.lock().machine.roster().is_listed(connection)
    }

    fn unsent_to(&self, connection: &Connection) -> usize {
        self.lock().machine.unsent_to(connection)
    }

    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.flushing && !state.machine.is_unflushed() {
            return Poll::Ready(());
        }
        if !state.watchers.iter().any(|known| known.will_wake(cx.waker())) {
            state.watchers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
