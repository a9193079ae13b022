use std::{future::Future, sync::Arc};

use futures_channel::oneshot;

use super::RoomCell;
use crate::{Refusal, Timestamp, machine::Event, value::order::Order};

/// The room's alarm: who rings it, and what operators do with it.
impl RoomCell {
    /// The room's alarm may be due: if it is, it rings. Always enters the mailbox. The future waits until
    /// that is over and durable.
    ///
    /// # Errors
    ///
    /// When the room could not be asked, or what became of it could not be stored: try again later, and
    /// do not give up. That the handler failed is no error: [`Backend::wake_ups`](crate::Backend) says
    /// by then when it rings next, if it does.
    pub fn alarm(self: &Arc<Self>) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let pushed = self.push(Event::Alarm { reply: Some(reply) });
        async move {
            pushed?;
            answer.await.unwrap_or(Err(Refusal::ShuttingDown)).map(drop)
        }
    }

    /// Sets the room's alarm from outside of it, in the place of the one there was. It counts from zero.
    /// Does not start the room. Always enters the mailbox. The future waits until that is stored.
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
