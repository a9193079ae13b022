use std::collections::BTreeMap;

use partykit_core::{CallError, ConnectionListing, RoomId, runtime::Host};

use super::{Handle, RoomListing};

/// How a store orders its rooms: shorter ids first.
type Place = (usize, RoomId);

fn place(id: &RoomId) -> Place {
    (id.len(), id.clone())
}

/// Lists. None of them wakes a room or claims it.
impl Handle {
    /// The first `limit` rooms of a party that store something or are in memory; with `after`, those that
    /// follow this id. Shorter ids come first, and ids of the same length in the order of their bytes.
    ///
    /// It reads the store, and looks at every room in memory of all parties, so take pages of a few hundred
    /// rooms. Rooms come and go between two pages: a page is what was true when it was made.
    ///
    /// ```no_run
    /// use partykit_core::Result;
    /// use partykit_runtime_tokio::{Handle, RoomListing};
    ///
    /// async fn every_room(handle: &Handle, party: &str) -> Result {
    ///     let mut after: Option<String> = None;
    ///     loop {
    ///         let page: Vec<RoomListing> = handle.rooms(party, after.as_deref(), 256).await?;
    ///         let Some(last) = page.last() else { return Ok(()) };
    ///         after = Some(last.id.to_string());
    ///         for room in &page {
    ///             println!("{}: {} connections", room.id, room.connections);
    ///         }
    ///     }
    /// }
    /// # let _ = every_room;
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no such party, `after` cannot be an id, or the store fails. A store of your own that
    /// cannot list its rooms says [`Unsupported`](partykit_core::BackendError::Unsupported): see
    /// [`loaded_rooms`](Handle::loaded_rooms) then.
    pub async fn rooms(
        &self,
        party: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<RoomListing>, CallError> {
        let after = self.from(party, after)?;
        if limit == 0 {
            return Ok(Vec::new());
        }
        let stored = self.host.backend().rooms(party, after.as_ref(), limit).await?;
        let mut rooms = self.loaded(party, after.as_ref(), limit);
        for id in stored {
            rooms.entry(place(&id)).or_insert_with(|| RoomListing::stored(id));
        }
        Ok(rooms.into_values().take(limit).collect())
    }

    /// The first `limit` rooms of a party that are in memory: awake, or asleep with connections. With
    /// `after`, those that follow this id, in the order of [`rooms`](Handle::rooms). Does not read the store.
    ///
    /// # Errors
    ///
    /// When there is no such party, or `after` cannot be an id.
    pub fn loaded_rooms(
        &self,
        party: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<RoomListing>, CallError> {
        let after = self.from(party, after)?;
        Ok(self.loaded(party, after.as_ref(), limit).into_values().collect())
    }

    /// The first `limit` connections of a room, in the order in which they came; with `after`, those that
    /// follow the one with this [number](ConnectionListing::number). Empty if the room is not in memory:
    /// then no client is connected.
    ///
    /// ```
    /// use partykit_core::{Body, CallError, Request, RequestExt, Response, ResponseExt, Result};
    /// use partykit_runtime_tokio::Handle;
    ///
    /// /// Who is in the lobby, as JSON: 100 at a time.
    /// fn who(handle: &Handle, request: &Request) -> Result<Response> {
    ///     let after = request.query("after").map(|after| after.parse()).transpose()?;
    ///     let page = handle.connections("chat", "lobby", after, 100)?;
    ///     Ok(Response::json(&page)?)
    /// }
    /// # let _ = who;
    /// ```
    ///
    /// # Errors
    ///
    /// When there can be no such room.
    pub fn connections(
        &self,
        party: &str,
        room: &str,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ConnectionListing>, CallError> {
        let address = self.reach(party, room)?;
        let Some(cell) = self.host.registry().find(&address) else { return Ok(Vec::new()) };
        Ok(cell.list_connections(after, limit))
    }

    /// Checks a party, and where its list begins.
    fn from(&self, party: &str, after: Option<&str>) -> Result<Option<RoomId>, CallError> {
        match self.host.party(party) {
            Some(_) => Ok(after.map(RoomId::new).transpose()?),
            None => Err(CallError::UnknownParty(party.to_owned())),
        }
    }

    /// Rooms in memory: the first ones only, so that what is kept while looking does not grow with them.
    fn loaded(
        &self,
        party: &str,
        after: Option<&RoomId>,
        limit: usize,
    ) -> BTreeMap<Place, RoomListing> {
        let after = after.map(place);
        let mut rooms = BTreeMap::new();
        for cell in self.host.registry().all() {
            let (address, place) = (cell.address(), place(cell.address().room()));
            let is_in_page = address.party() == party
                && after.as_ref().is_none_or(|after| place > *after)
                && (rooms.len() < limit
                    || rooms.last_key_value().is_some_and(|(last, _)| place < *last));
            if is_in_page {
                rooms.insert(place, RoomListing::loaded(address.room().clone(), &cell.stats()));
                if rooms.len() > limit {
                    rooms.pop_last();
                }
            }
        }
        rooms
    }
}
