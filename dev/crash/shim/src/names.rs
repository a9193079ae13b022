//! Changes of names: what a directory holds.

use std::ffi::{c_char, c_int, c_uint};

use libc::mode_t;

use crate::{
    fault::{self, Kind, Verdict, around},
    record::Record,
    watch::{refuse, status, watch, watched},
};

/// Variadic in C, which stable Rust cannot define. On the 64-bit Linux targets a variadic caller passes
/// the mode where a function with three parameters finds it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe { openat(libc::AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the same function.
    unsafe { openat(libc::AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn creat(path: *const c_char, mode: mode_t) -> c_int {
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    // SAFETY: the caller's promises are passed on.
    unsafe { openat(libc::AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn creat64(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the same function.
    unsafe { creat(path, mode) }
}

/// See [`open`] for the last parameter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: the caller's promises are passed on; a descriptor that nobody gets is closed.
    unsafe {
        let is_new = flags & libc::O_CREAT != 0;
        let kind = if is_new { Kind::Create } else { Kind::Open };
        let verdict = fault::at(kind, directory, path);
        let real = || {
            let fd = opened(directory, path, flags, mode);
            if fd >= 0 && matches!(verdict, Some(Verdict::FailsAfter(_))) {
                libc::syscall(libc::SYS_close, fd);
            }
            fd.into()
        };
        around(verdict, real) as c_int
    }
}

/// # Safety
///
/// As for `openat`.
unsafe fn opened(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's promises are passed on.
    let real = || unsafe { libc::syscall(libc::SYS_openat, directory, path, flags, mode) } as c_int;
    if flags & libc::O_TMPFILE == libc::O_TMPFILE {
        let fd = real();
        if fd >= 0 && watched(fd).is_some() {
            refuse("a file without a name (O_TMPFILE)");
        }
        return fd;
    }
    let changes = flags & (libc::O_CREAT | libc::O_TRUNC) != 0;
    let Some(watch) = watch().filter(|_| changes) else { return real() };
    // SAFETY: the caller's promises are passed on.
    let Some(place) = (unsafe { watch.place(directory, path) }) else { return real() };
    let turn = watch.turn();
    // SAFETY: the caller's promises are passed on.
    let was_there = unsafe { libc::faccessat(directory, path, libc::F_OK, 0) } == 0;
    let fd = real();
    if let Some(status) = (fd >= 0).then(|| status(fd)).flatten() {
        let node = status.st_ino;
        if !was_there {
            turn.record(Record::Create { directory: place.directory, name: &place.name, node });
        } else if flags & libc::O_TRUNC != 0 {
            turn.record(Record::Truncate { node, length: 0 });
        }
    }
    fd
}

/// See [`open`] for the last parameter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: the same function.
    unsafe { openat(directory, path, flags, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe { mkdirat(libc::AT_FDCWD, path, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdirat(directory: c_int, path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        around(fault::at(Kind::Mkdir, directory, path), || made(directory, path, mode).into())
            as c_int
    }
}

/// # Safety
///
/// As for `mkdirat`.
unsafe fn made(directory: c_int, path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        let real = || libc::syscall(libc::SYS_mkdirat, directory, path, mode) as c_int;
        let Some(watch) = watch() else { return real() };
        let Some(place) = watch.place(directory, path) else { return real() };
        let turn = watch.turn();
        let done = real();
        if done == 0 {
            let flags = libc::O_PATH | libc::O_CLOEXEC;
            let made = libc::syscall(libc::SYS_openat, directory, path, flags) as c_int;
            let node =
                status(made).map_or_else(|| refuse("a directory at once gone"), |it| it.st_ino);
            libc::syscall(libc::SYS_close, made);
            let directory = place.directory;
            turn.record(Record::MakeDirectory { directory, name: &place.name, node });
        }
        done
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe { unlinkat(libc::AT_FDCWD, path, 0) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe { unlinkat(libc::AT_FDCWD, path, libc::AT_REMOVEDIR) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn remove(path: *const c_char) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        match unlink(path) {
            0 => 0,
            _ if *libc::__errno_location() == libc::EISDIR => rmdir(path),
            failed => failed,
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        around(fault::at(Kind::Unlink, directory, path), || removed(directory, path, flags).into())
            as c_int
    }
}

/// # Safety
///
/// As for `unlinkat`.
unsafe fn removed(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        let real = || libc::syscall(libc::SYS_unlinkat, directory, path, flags) as c_int;
        let Some(watch) = watch() else { return real() };
        let Some(place) = watch.place(directory, path) else { return real() };
        let turn = watch.turn();
        let done = real();
        if done == 0 {
            turn.record(Record::Remove { directory: place.directory, name: &place.name });
        }
        done
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe { renameat2(libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe { renameat2(from_directory, from, to_directory, to, 0) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat2(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        around(fault::at(Kind::Rename, to_directory, to), || {
            renamed(from_directory, from, to_directory, to, flags).into()
        }) as c_int
    }
}

/// # Safety
///
/// As for `renameat2`.
unsafe fn renamed(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        let call = libc::SYS_renameat2;
        let real = || libc::syscall(call, from_directory, from, to_directory, to, flags) as c_int;
        let Some(watch) = watch() else { return real() };
        let (from, to) = match (watch.place(from_directory, from), watch.place(to_directory, to)) {
            (None, None) => return real(),
            (Some(from), Some(to)) => (from, to),
            _ => refuse("a rename across its border"),
        };
        if flags & libc::RENAME_EXCHANGE != 0 {
            refuse("an exchange of names");
        }
        let turn = watch.turn();
        let done = real();
        if done == 0 {
            let (from, to) = ((from.directory, &*from.name), (to.directory, &*to.name));
            turn.record(Record::Rename { from, to });
        }
        done
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn link(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe { linkat(libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn linkat(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        around(fault::at(Kind::Link, to_directory, to), || {
            linked_to(from_directory, from, to_directory, to, flags).into()
        }) as c_int
    }
}

/// # Safety
///
/// As for `linkat`.
unsafe fn linked_to(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        let call = libc::SYS_linkat;
        let real = || libc::syscall(call, from_directory, from, to_directory, to, flags) as c_int;
        let Some(watch) = watch() else { return real() };
        let Some(place) = watch.place(to_directory, to) else { return real() };
        if watch.place(from_directory, from).is_none() {
            refuse("a link across its border");
        }
        let turn = watch.turn();
        let done = real();
        if done == 0 {
            let flags = libc::O_PATH | libc::O_CLOEXEC;
            let linked = libc::syscall(libc::SYS_openat, to_directory, to, flags) as c_int;
            let node = status(linked).map_or_else(|| refuse("a link at once gone"), |it| it.st_ino);
            libc::syscall(libc::SYS_close, linked);
            turn.record(Record::Link { directory: place.directory, name: &place.name, node });
        }
        done
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn symlink(what: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe { symlinkat(what, libc::AT_FDCWD, to) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn symlinkat(
    what: *const c_char,
    directory: c_int,
    to: *const c_char,
) -> c_int {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        if watch().is_some_and(|watch| watch.place(directory, to).is_some()) {
            refuse("a symbolic link");
        }
        libc::syscall(libc::SYS_symlinkat, what, directory, to) as c_int
    }
}
