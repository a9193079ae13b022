//! Syncs: what makes changes last.

use std::{
    env,
    ffi::{c_int, c_long},
    sync::OnceLock,
    thread,
    time::Duration,
};

use crate::{
    fault::{self, Kind, around},
    record::Record,
    watch::{refuse, status, watched},
};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    let is_directory = status(fd).is_some_and(|it| it.st_mode & libc::S_IFMT == libc::S_IFDIR);
    let kind = if is_directory { Kind::Dirsync } else { Kind::Fsync };
    around(fault::on(kind, fd), || synced(fd, libc::SYS_fsync).into()) as c_int
}

/// What it leaves out, times, is not looked at: here it is `fsync`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    around(fault::on(Kind::Fdatasync, fd), || synced(fd, libc::SYS_fdatasync).into()) as c_int
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncfs(fd: c_int) -> c_int {
    if watched(fd).is_some() {
        refuse("syncfs");
    }
    // SAFETY: numbers only.
    unsafe { libc::syscall(libc::SYS_syncfs, fd) as c_int }
}

/// The disk is asked too, so that a sync takes its time; others write meanwhile. Their writes are not
/// among what has become durable.
fn synced(fd: c_int, call: c_long) -> c_int {
    if let Some(longer) = longer() {
        thread::sleep(longer);
    }
    // SAFETY: numbers only.
    let real = || unsafe { libc::syscall(call, fd) } as c_int;
    let Some((watch, node)) = watched(fd) else { return real() };
    let ticket = watch.ticket();
    watch.turn().record(Record::SyncBegins { node, ticket });
    let done = real();
    if done == 0 {
        watch.turn().record(Record::SyncEnds { ticket });
    }
    done
}

/// How much longer every sync takes than the disk needs, watched or not, if it is to.
fn longer() -> Option<Duration> {
    static LONGER: OnceLock<Option<Duration>> = OnceLock::new();
    *LONGER.get_or_init(|| {
        let millis = env::var("CRASH_SLOW_SYNC_MS").ok()?.parse().ok()?;
        Some(Duration::from_millis(millis))
    })
}
