use std::{fmt, sync::Arc};

use super::host::Host;
use crate::Options;

/// What rooms of a party have in common: its options, and the runtime that runs them. Rooms share it, because each
/// sleeping room would keep 24 bytes of it otherwise.
///
/// ```
/// use std::sync::Arc;
/// use partykit_core::{Options, runtime::{Host, RoomKind}};
///
/// fn kind(host: Arc<dyn Host>) -> Arc<RoomKind> {
///     RoomKind::new(Options::new().hibernate(true), host)
/// }
/// # let _ = kind;
/// ```
pub struct RoomKind {
    options: Arc<Options>,
    host: Arc<dyn Host>,
}

impl RoomKind {
    /// A kind of room. Make one for each party.
    pub fn new(options: impl Into<Arc<Options>>, host: Arc<dyn Host>) -> Arc<Self> {
        Arc::new(Self { options: options.into(), host })
    }

    /// The options of the party.
    pub(crate) fn options(&self) -> &Arc<Options> {
        &self.options
    }

    /// The runtime.
    pub(crate) fn host(&self) -> &Arc<dyn Host> {
        &self.host
    }
}

impl fmt::Debug for RoomKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomKind").field("options", &self.options).finish_non_exhaustive()
    }
}
