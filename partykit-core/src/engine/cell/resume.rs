//! For runtimes whose platform keeps the sockets and drops idle rooms completely.

use std::{fmt, future::poll_fn, mem, sync::Arc, task::Poll};

use super::RoomCell;
use crate::{
    AwakeReason, RoomAddress,
    connection::{attachment::Attachment, key::ConnectionKey, record::Status, socket::Socket},
    engine::kind::RoomKind,
    machine::{Dormant, Records},
};

/// A connection that comes back to its room: see [`RoomCell::resume`].
///
/// ```
/// use std::sync::Arc;
/// use partykit_core::runtime::{Attachment, AttachmentError, Resumed, Socket};
///
/// fn read(kept: &[u8], socket: Arc<dyn Socket>) -> Result<Resumed, AttachmentError> {
///     Ok(Resumed { attachment: Attachment::decode(kept)?, socket, closing: false })
/// }
/// # let _ = read;
/// ```
#[derive(Clone)]
#[allow(clippy::exhaustive_structs, reason = "made by runtimes")]
pub struct Resumed {
    /// The attachment that was kept with the socket.
    pub attachment: Attachment,
    /// The socket.
    pub socket: Arc<dyn Socket>,
    /// Whether the server has closed it already and waits for the client's answer. Then it is not listed.
    pub closing: bool,
}

impl fmt::Debug for Resumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resumed").field("closing", &self.closing).finish_non_exhaustive()
    }
}

impl RoomCell {
    /// A room whose instance was dropped together with its cell, while the platform kept its sockets: this is
    /// what a Durable Object finds when it wakes. The room sleeps, and has these connections in their old
    /// order.
    ///
    /// Attachments of one room differ in their [`order`](Attachment::order).
    ///
    /// ```
    /// use std::sync::Arc;
    /// use partykit_core::{RoomAddress, runtime::*};
    ///
    /// fn wake(
    ///     address: RoomAddress,
    ///     kind: Arc<RoomKind>,
    ///     kept: Vec<(Attachment, Arc<dyn Socket>)>,
    /// ) -> (Arc<RoomCell>, Vec<ConnectionKey>) {
    ///     let sockets = kept.into_iter().map(|(attachment, socket)| {
    ///         Resumed { attachment, socket, closing: false }
    ///     });
    ///     RoomCell::resume(address, kind, sockets.collect())
    /// }
    /// # let _ = wake;
    /// ```
    pub fn resume(
        address: RoomAddress,
        kind: Arc<RoomKind>,
        sockets: Vec<Resumed>,
    ) -> (Arc<Self>, Vec<ConnectionKey>) {
        let mut records = Records::with_capacity(address.room().clone(), sockets.len());
        let mut keys = Vec::with_capacity(sockets.len());
        for Resumed { attachment, socket, closing } in sockets {
            keys.push(ConnectionKey(attachment.order));
            records.resume(&attachment, socket, closing);
        }
        records.share();
        let dormant = Dormant::of(records, kind.host().elapsed());
        (Self::with(address, kind, dormant), keys)
    }

    /// What [`resume`](RoomCell::resume) needs to make this room again, in another cell or another process: its
    /// connections, in their order. Connections that `on_connect` has not accepted yet are not among them.
    ///
    /// [Drain](RoomCell::drain) the room before, so that nothing of it changes any more.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use partykit_core::runtime::{RoomCell, RoomKind};
    ///
    /// async fn again(room: Arc<RoomCell>, kind: Arc<RoomKind>) -> Arc<RoomCell> {
    ///     room.drain(std::time::Duration::ZERO).await;
    ///     RoomCell::resume(room.address().clone(), kind, room.records()).0
    /// }
    /// # let _ = again;
    /// ```
    pub fn records(&self) -> Vec<Resumed> {
        self.with_records(|records| {
            let known = records.all().filter(|it| it.status() != Status::Connecting);
            let resumed = known.filter_map(|record| {
                let (attachment, socket) = (records.attachment(record)?, record.socket()?.clone());
                Some(Resumed { attachment, socket, closing: record.status() == Status::Closing })
            });
            resumed.collect()
        })
    }

    /// Waits until the room has handled everything: no handler runs, no event waits, nothing is being stored,
    /// and all outputs have left. Returns the reasons why the room would still not sleep: tasks, guards, open
    /// bodies, or connections of a server that does not hibernate.
    ///
    /// A runtime whose platform drops idle rooms by itself waits for this before it allows that.
    pub async fn settled(&self) -> Vec<AwakeReason> {
        poll_fn(|cx| {
            let mut state = self.lock();
            let Some(state) = state.awake() else { return Poll::Ready(Vec::new()) };
            let reasons = state.machine.reasons();
            if state.machine.has_outputs() || reasons.iter().any(AwakeReason::is_passing) {
                state.watchers.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(reasons)
        })
        .await
    }

    /// Waits until something happens to the room.
    pub async fn changed(self: &Arc<Self>) {
        let mut watches = false;
        poll_fn(|cx| {
            if mem::replace(&mut watches, true) {
                return Poll::Ready(());
            }
            self.watch(cx.waker());
            Poll::Pending
        })
        .await;
    }
}
