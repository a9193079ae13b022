//! What connections need from their room. The running handler and other code may use a connection at the same
//! time.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tracing::warn;

use super::{Awake, RoomCell};
use crate::{
    Close, Connection, Message, StateError,
    connection::{
        Owner,
        record::{Record, Status},
    },
    storage::Lookup,
    value::close_reason::CloseReason,
};

impl RoomCell {
    /// A sender outside of the handlers has sent more to a connection than may wait in the room. No message
    /// may be left out, so the connection ends.
    fn fall_behind(self: &Arc<Self>, connection: &Connection) {
        let (party, room) = (self.address().party(), self.address().room().as_str());
        warn!(
            party,
            room,
            connection = connection.id(),
            "closed a connection with 1013: a task sent more to it than may wait in the room \
             (Options::max_held). Wait between messages: connection.drained(..).await"
        );
        self.slow_client();
        let close = CloseReason::TooFarBehind.close();
        self.outside(|machine, _| machine.close(connection.peer(), close));
    }
}

impl Owner for RoomCell {
    fn send(self: Arc<Self>, connection: &Connection, message: Message) {
        match self.in_turn() {
            Some(in_turn) => drop(self.inside(&in_turn, |turn| turn.send(connection, message))),
            None => {
                if self.outside(|machine, _| machine.send(connection, message)).is_some() {
                    self.fall_behind(connection);
                }
            }
        }
    }

    fn close(self: Arc<Self>, connection: &Connection, close: Close) {
        match self.in_turn() {
            Some(in_turn) => drop(self.inside(&in_turn, |turn| turn.close(connection, close))),
            None => drop(self.outside(|machine, _| machine.close(connection.peer(), close))),
        }
    }

    fn set_state(
        self: Arc<Self>,
        connection: &Connection,
        state: Option<Bytes>,
    ) -> Result<(), StateError> {
        match self.in_turn() {
            Some(in_turn) => self.inside(&in_turn, |turn| turn.set_state(connection, state)),
            None => self.outside(|machine, _| machine.set_state(connection, state)),
        }
    }

    fn pending_state(&self, connection: &Connection) -> Lookup {
        match self.in_turn() {
            Some(in_turn) => self.inside(&in_turn, |turn| turn.pending_state(connection)),
            None => Lookup::Ask,
        }
    }

    fn lists(&self, connection: &Connection) -> bool {
        let is_open = |record: &Record| record.status() == Status::Open;
        self.with_records(|records| records.get(connection.key()).is_some_and(is_open))
    }

    fn unsent_to(&self, connection: &Connection) -> usize {
        self.lock().awake().map_or(0, |awake| awake.machine.unsent_to(connection))
    }

    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let unflushed = |awake: &&mut Awake| awake.flushing || awake.machine.is_unflushed();
        let Some(state) = state.awake().filter(unflushed) else { return Poll::Ready(()) };
        if !state.watchers.iter().any(|known| known.will_wake(cx.waker())) {
            state.watchers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
