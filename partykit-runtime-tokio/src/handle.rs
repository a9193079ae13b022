mod alarms;
mod listing;
mod lists;
mod operator;
#[cfg(test)]
mod tests;

pub use listing::RoomListing;

use std::{
    fmt,
    io::Write,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use partykit_core::{
    AwakeReason, CallError, Message, Request, Response, RoomAddress, RoomId, RoomPhase, RoomStats,
    runtime::{Chain, Host, RoomCell},
};

use crate::{
    PartyStats, RuntimeStats,
    host::TokioHost,
    party::Past,
    shutdown::Shutdown,
    store::{Backup, BackupOptions, CopyError, DiskBackend, Dump, Progress, Selection},
    watch,
};

/// Reaches the rooms of a [`Runtime`](crate::Runtime) from outside of them. Clones share the runtime.
///
/// ```no_run
/// use partykit_core::{Body, Request, Result};
/// use partykit_runtime_tokio::Handle;
///
/// async fn announce(handle: &Handle) -> Result {
///     handle.broadcast("chat", "lobby", "we close at ten")?;
///     let answer = handle.request("chat", "lobby", Request::new(Body::from("who is here?"))).await?;
///     println!("{:?}", answer.body().bytes());
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Handle {
    host: Arc<TokioHost>,
    shutdown: Arc<Shutdown>,
}

impl Handle {
    pub(crate) fn new(host: Arc<TokioHost>, shutdown: Arc<Shutdown>) -> Self {
        Self { host, shutdown }
    }

    /// Sends a request to a room's [`on_request`](partykit_core::Server::on_request), without its
    /// before-hook, and waits for the answer. Wakes the room. When this returns the future, the request is in
    /// the room's mailbox; dropping the future does not take it back.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. There is no time limit here, so it never returns [`CallError::Timeout`]: add a
    /// timeout of your own if you need one.
    pub fn request(
        &self,
        party: &str,
        room: &str,
        request: Request,
    ) -> impl Future<Output = Result<Response, CallError>> + Send + use<> {
        let call = self.reach(party, room).map(|to| self.host.call(to, request, Chain::new()));
        async move { call?.await }
    }

    /// Sends a request without waiting for the answer. It is delivered at most once: a room that is
    /// overloaded or cannot start loses it.
    ///
    /// # Errors
    ///
    /// When the name of the party or of the room is not valid.
    pub fn tell(&self, party: &str, room: &str, request: Request) -> Result<(), CallError> {
        let to = self.reach(party, room)?;
        self.host.tell(to, request);
        Ok(())
    }

    /// Sends a message to all connections of a room. It does not wake the room: the clients of a sleeping
    /// room get the message too. Without connections the message is dropped.
    ///
    /// # Errors
    ///
    /// When the name of the party or of the room is not valid. [`Refusal::Overloaded`](partykit_core::Refusal),
    /// if messages come faster than the room can send them: a quarter of
    /// [`Options::max_held`](partykit_core::Options::max_held), 16 MiB by default, waits to leave the room. No
    /// client gets the message. Send it again after a moment.
    pub fn broadcast(
        &self,
        party: &str,
        room: &str,
        message: impl Into<Message>,
    ) -> Result<(), CallError> {
        self.send(party, room, message.into(), None)
    }

    /// Sends a message to the connections of a room that have a tag. A connection's id is one of its tags.
    ///
    /// # Errors
    ///
    /// As [`Handle::broadcast`].
    pub fn broadcast_tagged(
        &self,
        party: &str,
        room: &str,
        tag: &str,
        message: impl Into<Message>,
    ) -> Result<(), CallError> {
        self.send(party, room, message.into(), Some(tag))
    }

    /// The state of a room. `None` if the room is not in memory. Wakes no room.
    pub fn room_stats(&self, party: &str, room: &str) -> Option<RoomStats> {
        self.find(party, room).map(|cell| cell.stats())
    }

    /// The state of all rooms. Wakes no room. Takes a moment for each room and each socket in memory.
    pub fn stats(&self) -> RuntimeStats {
        let parties = self.host.parties().map(|party| {
            let Past { account, longest_awake_in } = party.past().clone();
            let slow_clients = party.link().slow_clients.load(Ordering::Relaxed);
            let stats = PartyStats {
                slow_clients,
                outbound_bytes: party.link().outbound.held(),
                account,
                longest_awake_in,
                ..PartyStats::default()
            };
            (party.name().clone(), stats)
        });
        let (blocked_threads, blocks) = watch::blocked();
        let store = self.host.store_stats();
        let mut stats = RuntimeStats { parties: parties.collect(), store, blocked_threads, blocks };
        for cell in self.host.registry().all() {
            let Some(party) = stats.parties.get_mut(cell.address().party()) else { continue };
            let room = cell.stats();
            party.rooms += 1;
            party.connections += room.connections;
            party.mailbox += room.mailbox;
            party.mailbox_bytes += room.mailbox_bytes;
            party.held += room.held;
            party.held_bytes += room.held_bytes;
            party.undelivered_bytes += room.undelivered_bytes;
            if party.account.add(&room.account) {
                party.longest_awake_in = Some(cell.address().room().clone());
            }
            match room.phase {
                RoomPhase::Asleep => party.asleep += 1,
                RoomPhase::Waking | RoomPhase::Awake => party.awake += 1,
            }
        }
        stats
    }

    /// Puts a room to sleep without waiting for its idle time. Its connections stay. Waits for running
    /// handlers, waiting events and commits. Returns `Ok` if the room sleeps already or is not in memory.
    ///
    /// # Errors
    ///
    /// The reasons, if something else keeps the room awake. It is never forced.
    pub async fn evict(&self, party: &str, room: &str) -> Result<(), Vec<AwakeReason>> {
        match self.find(party, room) {
            Some(cell) => cell.hibernate().await,
            None => Ok(()),
        }
    }

    /// Copies the store of all rooms into a new directory while the rooms go on. This is
    /// [`DiskBackend::backup`] with the default options.
    ///
    /// ```
    /// # use partykit_core::{Request, Response, Result, Room, Server};
    /// # #[derive(Default)]
    /// # struct Board;
    /// # impl Server for Board {
    /// #     async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
    /// #         room.storage().put("topic", "rust")?;
    /// #         Ok(Response::default())
    /// #     }
    /// # }
    /// use partykit_runtime_tokio::Runtime;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result {
    /// # let directory = tempfile::tempdir()?;
    /// # let (data, monday) = (directory.path().join("data"), directory.path().join("monday"));
    /// let runtime = Runtime::builder().party::<Board>("board").data(&data).build()?;
    /// let handle = runtime.handle();
    /// handle.request("board", "lobby", Request::default()).await?;
    /// let backup = handle.backup(&monday).await?;
    /// println!("commit {} is in {}", backup.commit, backup.path.display());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CopyError::NoStore`] if the runtime is [in memory](crate::Builder::in_memory) or has another
    /// backend. Otherwise as [`DiskBackend::backup`].
    pub async fn backup(&self, to: impl AsRef<Path>) -> Result<Backup, CopyError> {
        self.backup_with(to, BackupOptions::new()).await
    }

    /// Like [`Handle::backup`], with options for progress, hard links and the check.
    ///
    /// # Errors
    ///
    /// See [`Handle::backup`].
    pub async fn backup_with(
        &self,
        to: impl AsRef<Path>,
        options: BackupOptions,
    ) -> Result<Backup, CopyError> {
        self.store()?.backup(to, options).await
    }

    /// Writes rooms as text while the rooms go on. See [`DiskBackend::dump`].
    ///
    /// # Errors
    ///
    /// [`CopyError::NoStore`] as for [`Handle::backup`]. Otherwise as [`DiskBackend::dump`].
    pub async fn dump<W: Write + Send + 'static>(
        &self,
        selection: Selection,
        writer: W,
        progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<(Dump, W), CopyError> {
        self.store()?.dump(selection, writer, progress).await
    }

    fn store(&self) -> Result<&DiskBackend, CopyError> {
        self.host.store().ok_or(CopyError::NoStore)
    }

    /// Shuts the runtime down. No more connections are accepted, and nothing more is read from clients.
    /// Running handlers end, their commits are stored, and what they sent leaves. Then each room closes its
    /// sockets with 1012, one after another over
    /// [`Builder::shutdown_spread`](crate::Builder::shutdown_spread); PartySocket connects again by itself.
    /// No room waits for another room, no room is woken, and no `on_close` runs.
    ///
    /// A handler that still runs after [`Builder::shutdown_grace`](crate::Builder::shutdown_grace) is
    /// cancelled and rolled back. Clients have 3 s to answer their Close. So by default a shutdown takes at
    /// most 9.5 s, unless a handler blocks all threads. It may be called several times; all calls wait for
    /// the same shutdown.
    pub async fn shutdown(&self) {
        self.shutdown.run(&self.host).await;
    }

    /// Starts the program again, from the file that stands in its place now, and gives it everything: the
    /// listeners, all WebSockets with what is half read and half written, and all rooms, asleep. Clients
    /// notice nothing. This is what SIGUSR2 does to a process in [`Runtime::serve`](crate::Runtime::serve).
    ///
    /// No client is let in and nothing is read meanwhile; running handlers end. When this returns `Ok`, the
    /// runtime has stopped as after a [shutdown](Handle::shutdown), and the program should end. Clients with
    /// TLS get 1012 and come back to the next process; open HTTP responses end. Tasks are cancelled, and
    /// servers that do not hibernate lose their instance. The guide's page "Deploys without a disconnect" has
    /// the details.
    ///
    /// # Errors
    ///
    /// When the next process could not take over. This one goes on, with all connections.
    #[cfg(unix)]
    pub async fn hand_over(&self) -> Result<(), crate::HandOverError> {
        crate::handover::hand_over(&self.host, &self.shutdown).await
    }

    fn send(
        &self,
        party: &str,
        room: &str,
        message: Message,
        tag: Option<&str>,
    ) -> Result<(), CallError> {
        let to = self.reach(party, room)?;
        match self.host.registry().find(&to) {
            None => Ok(()),
            Some(cell) => {
                cell.broadcast(message, tag).map_err(|refusal| CallError::Refused(to, refusal))
            }
        }
    }

    fn reach(&self, party: &str, room: &str) -> Result<RoomAddress, CallError> {
        let room = RoomId::new(room)?;
        match self.host.party(party) {
            Some(party) => Ok(RoomAddress::new(party.name().clone(), room)),
            None => Err(CallError::UnknownParty(party.to_owned())),
        }
    }

    fn find(&self, party: &str, room: &str) -> Option<Arc<RoomCell>> {
        self.host.registry().find(&self.reach(party, room).ok()?)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("host", &self.host).finish_non_exhaustive()
    }
}
