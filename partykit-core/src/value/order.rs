use crate::Timestamp;

/// What an operator wants done with what a room stores. None of it starts the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    DeleteAlarm,
    /// Delete every row, and the alarm.
    Erase,
    ParkAlarm,
    SetAlarm(Timestamp),
}
