use partykit_core::{CallError, Close, CloseCode, Text};

use super::Handle;

/// What an operator does with a room and its clients. None of it starts the room.
impl Handle {
    /// Closes the connections of a room that have this id, with a code and a reason: all tabs of a client.
    /// Returns how many there were.
    ///
    /// What the room said to them before leaves first, and what they have said already is handled. From now
    /// on they are not listed. `on_close` runs when their clients have answered, or are given up.
    ///
    /// A client may connect again at once, and PartySocket does. What keeps it out is `on_before_connect`.
    ///
    /// ```
    /// use partykit_core::CallError;
    /// use partykit_runtime_tokio::Handle;
    ///
    /// fn kick(handle: &Handle, user: &str) -> Result<bool, CallError> {
    ///     Ok(handle.disconnect("chat", "lobby", user, 4001, "kicked")? > 0)
    /// }
    /// # let _ = kick;
    /// ```
    ///
    /// # Errors
    ///
    /// When there can be no such room, the code may not be sent or the reason is too long, see
    /// [`Close::new`].
    pub fn disconnect(
        &self,
        party: &str,
        room: &str,
        id: &str,
        code: impl Into<CloseCode>,
        reason: impl Into<Text>,
    ) -> Result<usize, CallError> {
        let close = Close::new(code, reason)?;
        let cell = self.host.registry().find(&self.reach(party, room)?);
        Ok(cell.map_or(0, |cell| cell.disconnect_id(id, &close)))
    }

    /// The same for all connections that have a tag; their ids are tags.
    ///
    /// # Errors
    ///
    /// As for [`disconnect`](Handle::disconnect).
    pub fn disconnect_tagged(
        &self,
        party: &str,
        room: &str,
        tag: &str,
        code: impl Into<CloseCode>,
        reason: impl Into<Text>,
    ) -> Result<usize, CallError> {
        self.disconnect_many(party, room, Some(tag), &Close::new(code, reason)?)
    }

    /// The same for all connections of a room.
    ///
    /// # Errors
    ///
    /// As for [`disconnect`](Handle::disconnect).
    pub fn disconnect_all(
        &self,
        party: &str,
        room: &str,
        code: impl Into<CloseCode>,
        reason: impl Into<Text>,
    ) -> Result<usize, CallError> {
        self.disconnect_many(party, room, None, &Close::new(code, reason)?)
    }

    /// Deletes everything that a room stores, its alarm too. Returns when that is stored.
    ///
    /// What happened to the room before is handled before it, and what it writes then is deleted too. If the
    /// room is awake, its instance is dropped and its tasks are cancelled, because they may hold what was
    /// stored. The connections stay open, with their states; what happens next meets a new instance. To close
    /// them as well, call [`disconnect_all`](Handle::disconnect_all) before.
    ///
    /// It also works while the room cannot start, as when its `on_start` fails because of what is stored.
    ///
    /// Backups that were made before still hold the rows. So do files of the store, until they are merged
    /// with newer ones.
    ///
    /// ```
    /// use partykit_core::CallError;
    /// use partykit_runtime_tokio::Handle;
    ///
    /// /// A user wants to be forgotten, who has a room of their own.
    /// async fn forget(handle: &Handle, user: &str) -> Result<(), CallError> {
    ///     handle.disconnect_all("notes", user, 4004, "deleted")?;
    ///     handle.erase("notes", user).await
    /// }
    /// # let _ = forget;
    /// ```
    ///
    /// # Errors
    ///
    /// When there can be no such room, or it could not be stored: then nothing is deleted.
    pub async fn erase(&self, party: &str, room: &str) -> Result<(), CallError> {
        self.order(party, room, |cell| cell.erase()).await
    }

    fn disconnect_many(
        &self,
        party: &str,
        room: &str,
        tag: Option<&str>,
        close: &Close,
    ) -> Result<usize, CallError> {
        let cell = self.host.registry().find(&self.reach(party, room)?);
        Ok(cell.map_or(0, |cell| cell.disconnect(tag, close)))
    }
}
