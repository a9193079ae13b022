//! Calls that change nothing: they can fail too.

use std::ffi::{c_char, c_int, c_uint, c_void};

use libc::{off_t, size_t, ssize_t};

use crate::fault::{self, Kind, around};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(fd: c_int, data: *mut c_void, count: size_t) -> ssize_t {
    // SAFETY: the caller's promises are passed on.
    let real = || unsafe { libc::syscall(libc::SYS_read, fd, data, count) };
    around(fault::on(Kind::Read, fd), real) as ssize_t
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread(
    fd: c_int,
    data: *mut c_void,
    count: size_t,
    offset: off_t,
) -> ssize_t {
    // SAFETY: the caller's promises are passed on.
    let real = || unsafe { libc::syscall(libc::SYS_pread64, fd, data, count, offset) };
    around(fault::on(Kind::Read, fd), real) as ssize_t
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread64(
    fd: c_int,
    data: *mut c_void,
    count: size_t,
    offset: off_t,
) -> ssize_t {
    // SAFETY: the same function.
    unsafe { pread(fd, data, count, offset) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn statx(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    found: *mut libc::statx,
) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        let real = || libc::syscall(libc::SYS_statx, directory, path, flags, mask, found);
        let is_of_fd = flags & libc::AT_EMPTY_PATH != 0;
        let verdict = match is_of_fd {
            true => fault::on(Kind::Stat, directory),
            false => fault::at(Kind::Stat, directory, path),
        };
        around(verdict, real) as c_int
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn flock(fd: c_int, how: c_int) -> c_int {
    // SAFETY: numbers only.
    let real = || unsafe { libc::syscall(libc::SYS_flock, fd, how) };
    around(fault::on(Kind::Lock, fd), real) as c_int
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn opendir(path: *const c_char) -> *mut libc::DIR {
    // SAFETY: the caller's promises are passed on; the function is there, as this one stands in for it.
    unsafe {
        if let Some(verdict) = fault::at(Kind::List, libc::AT_FDCWD, path) {
            around(Some(verdict), || 0);
            return std::ptr::null_mut();
        }
        type Real = unsafe extern "C" fn(*const c_char) -> *mut libc::DIR;
        let real = libc::dlsym(libc::RTLD_NEXT, c"opendir".as_ptr());
        let real: Real = std::mem::transmute::<*mut c_void, Real>(real);
        real(path)
    }
}
