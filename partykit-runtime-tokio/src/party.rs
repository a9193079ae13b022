use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use partykit_core::{
    Account, Handler, Options, RoomId,
    runtime::{RoomCell, RoomKind, front::AnyServer},
};
use tokio::runtime;

use crate::{
    gather::gathered,
    host::TokioHost,
    metrics::Meter,
    socket::LinkSettings,
    watch::{self, Work},
};

/// A kind of server, registered under a name.
pub(crate) struct Party {
    name: Arc<str>,
    options: Arc<Options>,
    /// What its rooms share. It is there as long as there are rooms, because it keeps the host, which has this.
    rooms: Mutex<Weak<RoomKind>>,
    server: AnyServer,
    link: Arc<LinkSettings>,
    past: Mutex<Past>,
}

/// What the rooms did that are not in memory any more.
#[derive(Clone, Default)]
pub(crate) struct Past {
    pub(crate) account: Account,
    /// The room that was awake for the longest time.
    pub(crate) longest_awake_in: Option<RoomId>,
}

impl Party {
    pub(crate) fn new(
        name: Arc<str>,
        options: Options,
        server: AnyServer,
        link: Arc<LinkSettings>,
    ) -> Self {
        Self {
            name,
            options: options.into(),
            rooms: Mutex::default(),
            server,
            link,
            past: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn options(&self) -> &Arc<Options> {
        &self.options
    }

    /// What its rooms share.
    pub(crate) fn rooms(&self, host: &Arc<TokioHost>) -> Arc<RoomKind> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.upgrade().unwrap_or_else(|| {
            let kind = RoomKind::new(self.options.clone(), host.clone());
            *rooms = Arc::downgrade(&kind);
            kind
        })
    }

    /// The settings of its sockets.
    pub(crate) fn link(&self) -> &Arc<LinkSettings> {
        &self.link
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.link.meter
    }

    /// What its rooms did that are not in memory any more.
    pub(crate) fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its code.
    pub(crate) fn server(&self) -> &AnyServer {
        &self.server
    }

    /// Runs a room until it sleeps.
    pub(crate) fn start(&self, on: &runtime::Handle, room: Arc<RoomCell>) {
        let room = watch::over(Work::Room(room.clone()), self.server.drive(room, ()));
        on.spawn(gathered(room));
    }

    /// Counts a request that a before-hook rejected. There is no room that could count it.
    pub(crate) fn rejected(&self, handler: Handler) {
        self.past().account.rejected += 1;
        self.meter().rejected(handler);
    }
}

impl Past {
    /// Adds what one room did.
    pub(crate) fn add(&mut self, room: &RoomId, account: &Account) {
        if self.account.add(account) {
            self.longest_awake_in = Some(room.clone());
        }
    }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Party").field("name", &self.name).finish_non_exhaustive()
    }
}
