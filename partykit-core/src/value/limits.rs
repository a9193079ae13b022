//! The limits of Durable Objects, which hold on every runtime.

use std::time::Duration;

/// The most tags of a connection, its id included.
pub(crate) const TAGS: usize = 10;
/// Bytes of a tag, and of a connection's id.
pub(crate) const TAG: usize = 256;
/// Bytes of id, uri, tags and state of a connection: 16,384 less the encoding's own.
pub(crate) const ATTACHMENT: usize = 16_320;
/// The bytes of a connection's uri that are kept. Clients choose the uri and the id. Even 32,768 connections
/// with the longest of both use only 40 MiB of the 64 MiB that a room has.
pub(crate) const URI: usize = 1024;
const _: () =
    assert!(URI + TAGS * TAG <= ATTACHMENT, "without a state, no attachment is too large");
const _: () =
    assert!(32_768 * (URI + TAG) <= ATTACHMENTS * 2 / 3, "clients alone cannot fill a room");
/// Bytes of id, uri, tags and state of all connections of a room together. Enough for 4,096 connections
/// at their maximum, or 32,768 with 2 KiB each.
pub(crate) const ATTACHMENTS: usize = 64 << 20;
/// Bytes of a storage key.
pub(crate) const KEY: usize = 2048;
/// Bytes of a storage key and its value.
pub(crate) const ROW: usize = 2_000_000;
/// Keys of one call to storage.
pub(crate) const KEYS: usize = 128;
/// After this time a busy room lets other tasks of its thread run, and the runtime look at its sockets.
pub(crate) const SLICE: Duration = Duration::from_micros(200);
/// Bytes that may wait for a client while the room handles its messages.
pub(crate) const CLOGGED: usize = 1 << 20;
/// Bytes of what one handler writes.
pub(crate) const BATCH: usize = 32 << 20;
/// How often an alarm is retried when its handler fails.
pub(crate) const ALARM_RETRIES: u32 = 6;
/// The pause after the first failure. It doubles after each further failure.
pub(crate) const ALARM_BACKOFF_FIRST: Duration = Duration::from_secs(2);
/// The pause of an alarm after the process has ended while it rang. It doubles after each further time. Up to
/// half of it is added, so that alarms that died together do not ring together.
pub(crate) const ALARM_DEATH_FIRST: Duration = Duration::from_secs(2);
/// The longest such pause, without that half.
pub(crate) const ALARM_DEATH: Duration = Duration::from_secs(5 * 60);
/// The latest moment for an alarm, in milliseconds since the Unix epoch: JavaScript's last one.
pub(crate) const ALARM: u64 = 8_640_000_000_000_000;
/// Failed starts in a row before events are refused for a while.
pub(crate) const START_FAILURES: u32 = 3;
/// The first such time. It doubles after each further failure.
pub(crate) const START_BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest such time.
pub(crate) const START_BACKOFF: Duration = Duration::from_secs(30);
/// How long a room stays awake that holds nothing and was reached only by requests. The same client may send
/// another one.
pub(crate) const BLANK_IDLE: Duration = Duration::from_secs(2);
