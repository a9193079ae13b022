use std::{future::Future, sync::Arc};

use futures_channel::oneshot;

use super::RoomCell;
use crate::{Refusal, Timestamp, machine::Event, value::order::Order};

/// The room's alarm: how runtimes ring it, and what operators do with it.
impl RoomCell {
    /// Rings the room's alarm if it is due. Always enters the mailbox. The future waits until the handler has
    /// ended and its writes are durable.
    ///
    /// # Errors
    ///
    /// When the room could not be asked, or the result could not be stored. Try again later, without a limit.
    /// A failed handler is not an error: [`Backend::wake_ups`](crate::Backend) then has the time of the next
    /// try, if there is one.
    pub fn alarm(self: &Arc<Self>) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let pushed = self.push(Event::Alarm { reply: Some(reply) });
        async move {
            pushed?;
            answer.await.unwrap_or(Err(Refusal::ShuttingDown)).map(drop)
        }
    }

    /// Sets or replaces the room's alarm from outside of the room. Its counts begin at zero. Does not start
    /// the room. Always enters the mailbox. The future waits until the alarm is stored.
    ///
    /// # Errors
    ///
    /// When the room could not be asked, or the alarm could not be stored.
    pub fn set_alarm(
        self: &Arc<Self>,
        at: Timestamp,
    ) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
        self.order(Order::SetAlarm(at))
    }

    /// Deletes the room's alarm from outside of it. Without an alarm this does nothing. Does not start the
    /// room.
    ///
    /// # Errors
    ///
    /// As for [`set_alarm`](RoomCell::set_alarm).
    pub fn delete_alarm(
        self: &Arc<Self>,
    ) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
        self.order(Order::DeleteAlarm)
    }

    /// Stops the room's alarm from outside of it: it is kept, and does not ring until a new one is set.
    /// Without an alarm this does nothing. Does not start the room.
    ///
    /// # Errors
    ///
    /// As for [`set_alarm`](RoomCell::set_alarm).
    pub fn park_alarm(
        self: &Arc<Self>,
    ) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
        self.order(Order::ParkAlarm)
    }

    pub(super) fn order(
        self: &Arc<Self>,
        order: Order,
    ) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let pushed = self.push(Event::Order { order, reply: Some(reply) });
        async move {
            pushed?;
            answer.await.unwrap_or(Err(Refusal::ShuttingDown)).map(drop)
        }
    }
}
