use std::fmt;

/// One of the functions of a [`Server`](crate::Server).
///
/// ```
/// use partykit_core::Handler;
///
/// assert_eq!(Handler::OnMessage.name(), "on_message");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is named after its function")]
pub enum Handler {
    OnAlarm,
    OnBeforeConnect,
    OnBeforeRequest,
    OnClose,
    OnConnect,
    OnError,
    OnMessage,
    OnRequest,
    OnSchedule,
    OnStart,
    OnTask,
}

impl Handler {
    /// The name of the function: `"on_message"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnAlarm => "on_alarm",
            Self::OnBeforeConnect => "on_before_connect",
            Self::OnBeforeRequest => "on_before_request",
            Self::OnClose => "on_close",
            Self::OnConnect => "on_connect",
            Self::OnError => "on_error",
            Self::OnMessage => "on_message",
            Self::OnRequest => "on_request",
            Self::OnSchedule => "on_schedule",
            Self::OnStart => "on_start",
            Self::OnTask => "on_task",
        }
    }
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
