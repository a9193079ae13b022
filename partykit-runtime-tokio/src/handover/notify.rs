//! What systemd is told, if it has asked with `Type=notify`.

use sd_notify::NotifyState;
use tracing::debug;

/// The process serves.
pub(crate) fn ready() {
    say(&[NotifyState::Ready]);
}

/// A hand-over begins.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => say(&[NotifyState::Reloading, now]),
        Err(error) => debug!("the time for systemd is not known: {error}"),
    }
}

/// This process is the service now.
pub(super) fn handed_to(process: u32) {
    say(&[NotifyState::MainPid(process), NotifyState::Ready]);
}

/// The process shuts down.
pub(crate) fn stopping() {
    say(&[NotifyState::Stopping]);
}

fn say(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!("systemd was not told: {error}");
    }
}
