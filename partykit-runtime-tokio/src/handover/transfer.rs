use std::{
    io, mem,
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::net::{AddressFamily, getsockname};
use tokio::sync::oneshot;
use tracing::debug;

use super::{
    giving::blocking,
    message::{Given, Record, Taken, receive, send},
    quiet::Quiet,
    successor::Successor,
    wire::{DESCRIPTORS, Wire},
};
use crate::shutdown::{Shutdown, Stage};

/// How long the next process may take to open the store and to take everything.
const TAKE: Duration = Duration::from_secs(10);

/// About how many bytes one message has.
const BATCH: usize = 1 << 20;

/// Sends all sockets, and waits until the next process has taken them. Returns their number. A shutdown that
/// begins before the commit ends the next process.
///
/// The next process opens the store when it hears that it has all sockets: that is when this one has closed it.
pub(super) async fn transfer(
    quiet: &Arc<Quiet>,
    store_closed: oneshot::Receiver<()>,
    wire: Wire,
    shutdown: &Shutdown,
    successor: &mut Successor,
) -> io::Result<usize> {
    // Invariant: the wire stays open until a next process that has not taken everything is dead. It goes on when
    // it sees the end of the wire.
    let _open = wire.hang_up()?;
    // Set by the one that decides: the thread that reads `Taken`, or a shutdown.
    let decided = Arc::new(AtomicBool::new(false));
    let (decides, quiet) = (decided.clone(), quiet.clone());
    let mut transfer = pin!(blocking(move || {
        let mut wire = wire;
        wire.patience(TAKE)?;
        let count = send_sockets(&quiet, &mut wire)?;
        store_closed.blocking_recv().map_err(io::Error::other)?;
        send(&mut wire, &Given::End, &[])?;
        debug!("sent all sockets to the next process");
        let (Taken, _) = receive(&mut wire)?;
        if decides.swap(true, Ordering::SeqCst) {
            return Err(io::Error::other("the runtime shuts down"));
        }
        debug!("the next process has everything");
        // The commit. If this does not arrive, the next process sees that this one is gone.
        let _ = send(&mut wire, &Given::Yours, &[]);
        Ok(count)
    }));
    let transferred = tokio::select! {
        transferred = &mut transfer => transferred,
        () = shutdown.reached(Stage::Stopping) => {
            if !decided.swap(true, Ordering::SeqCst) {
                // It has not heard `Yours`, so it has touched no socket.
                successor.kill();
            }
            transfer.await
        }
    };
    transferred.inspect_err(|_| successor.kill())
}

fn send_sockets(quiet: &Quiet, wire: &mut Wire) -> io::Result<usize> {
    let (mut count, mut batch) = (0, Batch::default());
    for (address, record, left) in quiet.connections() {
        // A connection that has ended.
        let Some(socket) = left.state() else { continue };
        let double = || left.with_descriptor(|it| it.try_clone_to_owned());
        let descriptor = match double() {
            // One that only this process can go on with.
            None => continue,
            Some(Err(error)) if is_full(&error) && !batch.records.is_empty() => {
                count += mem::take(&mut batch).send(wire)?;
                double().ok_or(io::ErrorKind::NotConnected)?
            }
            Some(doubled) => doubled,
        }?;
        let is_unix = getsockname(&descriptor)?.address_family() == AddressFamily::UNIX;
        let record = Record {
            party: address.party().to_owned(),
            room: address.room().as_str().to_owned(),
            attachment: record.attachment.encode(),
            is_unix,
            socket,
        };
        let size = record.socket.size() + record.attachment.len();
        if !batch.takes(size) {
            count += mem::take(&mut batch).send(wire)?;
        }
        batch.bytes += size;
        batch.records.push(record);
        batch.descriptors.push(descriptor);
    }
    Ok(count + batch.send(wire)?)
}

/// Whether the process may have no further descriptor.
fn is_full(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error())
}

/// Sockets of one message. Their descriptors are doubled until it is sent.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    descriptors: Vec<OwnedFd>,
    bytes: usize,
}

impl Batch {
    fn takes(&self, bytes: usize) -> bool {
        self.descriptors.len() < DESCRIPTORS
            && (self.records.is_empty() || self.bytes + bytes <= BATCH)
    }

    /// Returns how many sockets it had.
    fn send(self, wire: &mut Wire) -> io::Result<usize> {
        let (count, records) = (self.records.len(), Given::Batch(self.records));
        let descriptors: Vec<_> = self.descriptors.iter().map(AsFd::as_fd).collect();
        send(wire, &records, &descriptors)?;
        Ok(count)
    }
}
