//! The states of connections, as they are committed.

use bytes::Bytes;

use super::{Machine, Output, gate::Author};
use crate::{Batch, Connection, StateError, value::limits};

impl Machine {
    /// Sets a state from outside of a handler. It is committed at once.
    pub(crate) fn set_state(
        &mut self,
        connection: &Connection,
        state: Option<Bytes>,
    ) -> Result<(), StateError> {
        self.has_room_for(connection, state.as_ref())?;
        self.replace_state(connection, state);
        Ok(())
    }

    /// Whether the attachments of all connections have room for this state.
    ///
    /// # Errors
    ///
    /// When they have not. A state that is not larger than the one before always has room.
    pub(super) fn has_room_for(
        &self,
        connection: &Connection,
        state: Option<&Bytes>,
    ) -> Result<(), StateError> {
        let state = state.map_or(0, Bytes::len);
        let states = self.turn.as_ref().map_or_else(Vec::new, |turn| turn.overlay.states());
        // Mostly there is room for far more: then nothing is to be counted.
        let most = self.roster.attached() + state + states.len() * limits::ATTACHMENT;
        if most <= limits::ATTACHMENTS {
            return Ok(());
        }
        let committed = |c: &Connection| c.committed_state().map_or(0, |state| state.len());
        let own = committed(connection);
        let others = states.iter().filter(|(c, _)| *c != connection);
        let (more, less) = others.fold((state, own), |(more, less), (c, state)| {
            (more + state.as_ref().map_or(0, Bytes::len), less + committed(c))
        });
        let total = (self.roster.attached() + more).saturating_sub(less);
        match total > limits::ATTACHMENTS && state > own {
            true => Err(StateError::RoomTooLarge(total)),
            false => Ok(()),
        }
    }

    /// What a handler wrote goes to the next commit; the states that it set hold from now on.
    pub(super) fn keep(
        &mut self,
        batch: Batch,
        states: Vec<(Connection, Option<Bytes>)>,
        author: Author,
    ) {
        if !batch.is_empty() {
            self.gate.add(batch, author);
        }
        for (connection, state) in states {
            let before = self.replace_state(&connection, state);
            self.gate.remember(&connection, before);
        }
    }

    /// Sets a committed state and returns the one before.
    fn replace_state(&mut self, connection: &Connection, state: Option<Bytes>) -> Option<Bytes> {
        let before = self.roster.commit_state(connection, state);
        self.outputs.push_back(Output::Attach(connection.clone()));
        before
    }
}
