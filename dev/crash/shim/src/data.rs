//! Changes of what a file holds.

use std::{
    ffi::{c_char, c_int, c_void},
    slice,
};

use libc::{iovec, off_t, size_t, ssize_t};

use crate::{
    fault::{self, Kind, Verdict, around},
    record::Record,
    watch::{refuse, status, watched},
};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, data: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        let verdict = fault::on(Kind::Write, fd);
        let count = shortened(verdict, count);
        let real = || {
            let real = || libc::syscall(libc::SYS_write, fd, data, count);
            at_the_cursor(fd, real, |n| bytes(data, n)) as i64
        };
        around(verdict, real) as ssize_t
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        let real = || {
            let real = || libc::syscall(libc::SYS_writev, fd, parts, count);
            at_the_cursor(fd, real, |n| gathered(parts, count, n)) as i64
        };
        around(fault::on(Kind::Write, fd), real) as ssize_t
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(
    fd: c_int,
    data: *const c_void,
    count: size_t,
    offset: off_t,
) -> ssize_t {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        let verdict = fault::on(Kind::Write, fd);
        let count = shortened(verdict, count);
        let real = || {
            let real = || libc::syscall(libc::SYS_pwrite64, fd, data, count, offset);
            at_an_offset(fd, offset, real, |n| bytes(data, n)) as i64
        };
        around(verdict, real) as ssize_t
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    fd: c_int,
    data: *const c_void,
    count: size_t,
    offset: off_t,
) -> ssize_t {
    // SAFETY: the same function.
    unsafe { pwrite(fd, data, count, offset) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off_t,
) -> ssize_t {
    // SAFETY: the caller's promises are passed on. The kernel takes the offset in two halves, of which
    // the second is unused where a register holds 64 bits.
    unsafe {
        at_an_offset(
            fd,
            offset,
            || libc::syscall(libc::SYS_pwritev, fd, parts, count, offset, 0),
            |n| gathered(parts, count, n),
        )
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev64(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off_t,
) -> ssize_t {
    // SAFETY: the same function.
    unsafe { pwritev(fd, parts, count, offset) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(fd: c_int, length: off_t) -> c_int {
    around(fault::on(Kind::Truncate, fd), || truncated(fd, length).into()) as c_int
}

fn truncated(fd: c_int, length: off_t) -> c_int {
    // SAFETY: numbers only.
    let real = || unsafe { libc::syscall(libc::SYS_ftruncate, fd, length) } as c_int;
    let Some((watch, node)) = watched(fd) else { return real() };
    let turn = watch.turn();
    let done = real();
    if done == 0 {
        turn.record(Record::Truncate { node, length: length as u64 });
    }
    done
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: off_t) -> c_int {
    // SAFETY: the same function.
    unsafe { ftruncate(fd, length) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn truncate(path: *const c_char, length: off_t) -> c_int {
    // SAFETY: the caller's promise about `path` is passed on; the descriptor is closed once.
    unsafe {
        let flags = libc::O_WRONLY | libc::O_CLOEXEC;
        let fd = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags) as c_int;
        if fd < 0 {
            return fd;
        }
        let done = ftruncate(fd, length);
        libc::syscall(libc::SYS_close, fd);
        done
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn truncate64(path: *const c_char, length: off_t) -> c_int {
    // SAFETY: the same function.
    unsafe { truncate(path, length) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate(fd: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int {
    // SAFETY: numbers only.
    let real = || unsafe { libc::syscall(libc::SYS_fallocate, fd, mode, offset, length) } as c_int;
    let Some((watch, node)) = watched(fd) else { return real() };
    if mode & !libc::FALLOC_FL_KEEP_SIZE != 0 {
        refuse("fallocate that makes holes");
    }
    let turn = watch.turn();
    let done = real();
    if done == 0
        && let Some(status) = status(fd)
    {
        turn.record(Record::Truncate { node, length: status.st_size as u64 });
    }
    done
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate64(
    fd: c_int,
    mode: c_int,
    offset: off_t,
    length: off_t,
) -> c_int {
    // SAFETY: the same function.
    unsafe { fallocate(fd, mode, offset, length) }
}

/// Answers with an error number, as this one does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_fallocate(fd: c_int, offset: off_t, length: off_t) -> c_int {
    // SAFETY: numbers only; `errno` is always there.
    unsafe { if fallocate(fd, 0, offset, length) == 0 { 0 } else { *libc::__errno_location() } }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_fallocate64(fd: c_int, offset: off_t, length: off_t) -> c_int {
    // SAFETY: the same function.
    unsafe { posix_fallocate(fd, offset, length) }
}

/// Not into a watched file: who asks for it is ready to copy by hand.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_file_range(
    from: c_int,
    from_offset: *mut off_t,
    to: c_int,
    to_offset: *mut off_t,
    length: size_t,
    flags: libc::c_uint,
) -> ssize_t {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        unless_watched(to, || {
            let call = libc::SYS_copy_file_range;
            libc::syscall(call, from, from_offset, to, to_offset, length, flags)
        })
    }
}

/// As [`copy_file_range`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile(
    to: c_int,
    from: c_int,
    offset: *mut off_t,
    count: size_t,
) -> ssize_t {
    // SAFETY: the caller's promises are passed on.
    unsafe { unless_watched(to, || libc::syscall(libc::SYS_sendfile, to, from, offset, count)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile64(
    to: c_int,
    from: c_int,
    offset: *mut off_t,
    count: size_t,
) -> ssize_t {
    // SAFETY: the same function.
    unsafe { sendfile(to, from, offset, count) }
}

/// As [`copy_file_range`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn splice(
    from: c_int,
    from_offset: *mut off_t,
    to: c_int,
    to_offset: *mut off_t,
    length: size_t,
    flags: libc::c_uint,
) -> ssize_t {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        unless_watched(to, || {
            libc::syscall(libc::SYS_splice, from, from_offset, to, to_offset, length, flags)
        })
    }
}

/// Writes through a writable shared mapping could not be seen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap(
    address: *mut c_void,
    length: size_t,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    let shared = flags & libc::MAP_SHARED != 0 && flags & libc::MAP_ANONYMOUS == 0;
    if shared && protection & libc::PROT_WRITE != 0 && watched(fd).is_some() {
        refuse("a writable shared mapping");
    }
    // SAFETY: the caller's promises are passed on.
    let mapped =
        unsafe { libc::syscall(libc::SYS_mmap, address, length, protection, flags, fd, offset) };
    mapped as *mut c_void
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap64(
    address: *mut c_void,
    length: size_t,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    // SAFETY: the same function.
    unsafe { mmap(address, length, protection, flags, fd, offset) }
}

fn shortened(verdict: Option<Verdict>, count: size_t) -> size_t {
    if matches!(verdict, Some(Verdict::Short)) { count.div_ceil(2) } else { count }
}

/// A write where the descriptor stands, or at the end of the file: either way it ends where the
/// descriptor stands then.
fn at_the_cursor(fd: c_int, real: impl Fn() -> i64, data: impl Fn(usize) -> Vec<u8>) -> ssize_t {
    let Some((watch, node)) = watched(fd) else { return real() as ssize_t };
    let turn = watch.turn();
    let written = real();
    if written > 0 {
        // SAFETY: numbers only.
        let end = unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) };
        let data = data(written as usize);
        turn.record(Record::Write { node, offset: (end - written) as u64, data: &data });
    }
    written as ssize_t
}

fn at_an_offset(
    fd: c_int,
    offset: off_t,
    real: impl Fn() -> i64,
    data: impl Fn(usize) -> Vec<u8>,
) -> ssize_t {
    let Some((watch, node)) = watched(fd) else { return real() as ssize_t };
    // SAFETY: numbers only.
    if unsafe { libc::fcntl(fd, libc::F_GETFL) } & libc::O_APPEND != 0 {
        refuse("pwrite to a file that is open for appending");
    }
    let turn = watch.turn();
    let written = real();
    if written > 0 {
        let data = data(written as usize);
        turn.record(Record::Write { node, offset: offset as u64, data: &data });
    }
    written as ssize_t
}

fn unless_watched(to: c_int, real: impl Fn() -> i64) -> ssize_t {
    if watched(to).is_none() {
        return real() as ssize_t;
    }
    // SAFETY: `errno` is always there.
    unsafe { *libc::__errno_location() = libc::EINVAL };
    -1
}

/// # Safety
///
/// `data` points to `count` bytes.
unsafe fn bytes(data: *const c_void, count: usize) -> Vec<u8> {
    // SAFETY: by the contract of this function.
    unsafe { slice::from_raw_parts(data.cast::<u8>(), count) }.to_vec()
}

/// The first `limit` bytes of all parts.
///
/// # Safety
///
/// `parts` points to `count` buffers.
unsafe fn gathered(parts: *const iovec, count: c_int, limit: usize) -> Vec<u8> {
    let mut all = Vec::with_capacity(limit);
    // SAFETY: by the contract of this function.
    for part in unsafe { slice::from_raw_parts(parts, count as usize) } {
        let take = part.iov_len.min(limit - all.len());
        if take > 0 {
            // SAFETY: by the contract of this function.
            all.extend(unsafe { bytes(part.iov_base, take) });
        }
    }
    all
}
