use partykit_core::{
    CallError, Refusal, Timestamp,
    runtime::{AlarmState, Host, RoomCell, read_alarm},
};

use super::Handle;

/// What an operator does with a room's alarm. These methods do not start the room and run none of its code,
/// so they also work for a room whose alarm ends the process. (If the process ends at every start, name the
/// room in [`Builder::park_alarm`](crate::Builder::park_alarm) or in `PARTYKIT_PARK_ALARMS`.)
impl Handle {
    /// A room's alarm as it is stored. `None` if the room has no alarm.
    ///
    /// ```no_run
    /// use partykit_core::Result;
    /// use partykit_runtime_tokio::Handle;
    ///
    /// async fn stop_if_it_kills(handle: &Handle, party: &str, room: &str) -> Result {
    ///     if handle.alarm(party, room).await?.is_some_and(|alarm| alarm.deaths > 3) {
    ///         handle.park_alarm(party, room).await?;
    ///     }
    ///     Ok(())
    /// }
    /// # let _ = stop_if_it_kills;
    /// ```
    ///
    /// # Errors
    ///
    /// When the name of the party or of the room is not valid, or the store fails.
    pub async fn alarm(&self, party: &str, room: &str) -> Result<Option<AlarmState>, CallError> {
        let room = self.reach(party, room)?;
        Ok(read_alarm(&**self.host.backend(), &room).await?)
    }

    /// A room's schedules as they are stored, in the order of their names.
    ///
    /// # Errors
    ///
    /// When the name of the party or of the room is not valid, or the store fails.
    #[cfg(feature = "schedules")]
    pub async fn schedules(
        &self,
        party: &str,
        room: &str,
    ) -> Result<Vec<partykit_core::Schedule>, CallError> {
        let room = self.reach(party, room)?;
        Ok(partykit_core::runtime::read_schedules(&**self.host.backend(), &room).await?)
    }

    /// Stops a room's alarm, and those of its schedules in whose handlers the process has ended. The alarm is
    /// kept with its counts, and does not ring until the room or
    /// [`set_alarm`](Handle::set_alarm) sets a new one. Without an alarm this does nothing. Returns when it is
    /// stored. A running handler of the room ends first.
    ///
    /// # Errors
    ///
    /// When the name of the party or of the room is not valid, or the store fails.
    pub async fn park_alarm(&self, party: &str, room: &str) -> Result<(), CallError> {
        self.order(party, room, |cell| cell.park_alarm()).await
    }

    /// Sets a room's alarm. It replaces the old one, parked or not, and its counts begin at zero.
    ///
    /// # Errors
    ///
    /// As for [`park_alarm`](Handle::park_alarm).
    pub async fn set_alarm(
        &self,
        party: &str,
        room: &str,
        at: impl Into<Timestamp>,
    ) -> Result<(), CallError> {
        let at = at.into();
        self.order(party, room, |cell| cell.set_alarm(at)).await
    }

    /// Deletes a room's alarm. Without an alarm this does nothing.
    ///
    /// # Errors
    ///
    /// As for [`park_alarm`](Handle::park_alarm).
    pub async fn delete_alarm(&self, party: &str, room: &str) -> Result<(), CallError> {
        self.order(party, room, |cell| cell.delete_alarm()).await
    }

    pub(super) async fn order<F: Future<Output = Result<(), Refusal>>>(
        &self,
        party: &str,
        room: &str,
        order: impl FnOnce(&std::sync::Arc<RoomCell>) -> F,
    ) -> Result<(), CallError> {
        let to = self.reach(party, room)?;
        let refused = |refusal| CallError::Refused(to.clone(), refusal);
        let Some(known) = self.host.party(to.party()) else {
            return Err(CallError::UnknownParty(party.to_owned()));
        };
        let done = self.host.enter(known, &to, order).map_err(refused)?;
        done.await.map_err(refused)
    }
}
