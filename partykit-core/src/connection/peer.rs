use std::{fmt, sync::Arc};

use super::socket::Socket;

/// A connection as what is said reaches it: no handle is needed for that.
#[derive(Clone)]
pub(crate) struct Peer {
    key: u64,
    socket: Arc<dyn Socket>,
}

impl Peer {
    pub(crate) fn new(key: u64, socket: Arc<dyn Socket>) -> Self {
        Self { key, socket }
    }

    /// Numbers the connections of a room in the order in which they came.
    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    /// The runtime's end of the connection.
    pub(crate) fn socket(&self) -> &Arc<dyn Socket> {
        &self.socket
    }
}

/// Two peers are equal when they are the same socket.
impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        address(&self.socket) == address(&other.socket)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(&self.key).finish()
    }
}

/// What tells one socket from another.
pub(super) fn address(socket: &Arc<dyn Socket>) -> usize {
    Arc::as_ptr(socket).cast::<()>().addr()
}
