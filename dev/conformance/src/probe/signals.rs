//! What rooms tell one another past the runtime: a channel in a static, as an application may have one.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use futures_channel::oneshot;
use partykit::Result;

static WAITING: LazyLock<Mutex<HashMap<String, oneshot::Sender<()>>>> =
    LazyLock::new(Mutex::default);

/// Ends when somebody [signals](signal).
pub(super) async fn wait(signal: &str) -> Result {
    let (sender, signalled) = oneshot::channel();
    waiting().insert(signal.to_owned(), sender);
    Ok(signalled.await?)
}

/// Whether somebody has waited, who goes on now.
pub(super) fn signal(signal: &str) -> bool {
    let sender = waiting().remove(signal);
    sender.is_some_and(|sender| sender.send(()).is_ok())
}

fn waiting() -> MutexGuard<'static, HashMap<String, oneshot::Sender<()>>> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}
