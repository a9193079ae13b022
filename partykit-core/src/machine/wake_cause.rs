use std::fmt;

use serde::Serialize;

/// The kind of event that made an instance necessary.
///
/// ```
/// use partykit_core::WakeCause;
///
/// assert_eq!(WakeCause::Message.to_string(), "message");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum WakeCause {
    /// The room's alarm is due.
    Alarm,
    /// A client connects.
    Connect,
    /// A connection has ended.
    Disconnect,
    /// A handler failed and took the instance; `on_error` gets a new one.
    Error,
    /// A connection said something.
    Message,
    /// An HTTP request, or a call or tell from another room.
    Request,
    /// A task ended after a failure had taken the instance.
    Task,
}

impl WakeCause {
    /// All of them, in their order.
    pub(super) const ALL: [Self; 7] = [
        Self::Alarm,
        Self::Connect,
        Self::Disconnect,
        Self::Error,
        Self::Message,
        Self::Request,
        Self::Task,
    ];

    /// Its name, for logs and metrics.
    ///
    /// ```
    /// use partykit_core::WakeCause;
    ///
    /// assert_eq!(WakeCause::Disconnect.name(), "disconnect");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
            Self::Error => "error",
            Self::Message => "message",
            Self::Request => "request",
            Self::Task => "task",
        }
    }
}

impl fmt::Display for WakeCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
