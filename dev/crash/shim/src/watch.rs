//! Which directory is watched, what lies in it, and the log.

use std::{
    env,
    ffi::{CStr, CString, c_char, c_int},
    fs,
    mem::MaybeUninit,
    os::unix::ffi::{OsStrExt, OsStringExt},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::record::{DIRECTORY, LOG, Record};

/// The directory, and the log of what happens there.
pub(crate) struct Watch {
    root: Root,
    log: c_int,
    tickets: AtomicU64,
    turn: Mutex<()>,
}

/// A directory by its path, and all below it.
pub(crate) struct Root(Vec<u8>);

/// A name in a watched directory.
pub(crate) struct Place {
    pub(crate) directory: u64,
    pub(crate) name: Vec<u8>,
}

/// The right to change something: its holder changes and records, so that the log has the order of
/// the changes.
pub(crate) struct Turn<'a> {
    watch: &'a Watch,
    _only: MutexGuard<'a, ()>,
}

/// The watch, if this process is to be watched.
pub(crate) fn watch() -> Option<&'static Watch> {
    static WATCH: OnceLock<Option<Watch>> = OnceLock::new();
    WATCH.get_or_init(Watch::from_environment).as_ref()
}

impl Watch {
    /// Calls nothing that this library replaces: it runs inside of the first such call.
    fn from_environment() -> Option<Self> {
        let (directory, log) = (env::var_os(DIRECTORY)?, env::var_os(LOG)?);
        let Ok(root) = fs::canonicalize(&directory) else {
            refuse("a directory that is not there")
        };
        let Ok(log) = CString::new(log.into_vec()) else { refuse("a log with a NUL in its name") };
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
        // SAFETY: `log` is a C string.
        let log =
            unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, log.as_ptr(), flags, 0o600) };
        if log < 0 {
            refuse("a log that cannot be opened");
        }
        let root = Root::new(root.as_os_str().as_bytes().to_vec());
        Some(Self { root, log: log as c_int, tickets: AtomicU64::new(0), turn: Mutex::new(()) })
    }

    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn { watch: self, _only: self.turn.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    pub(crate) fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// See [`Root::place`].
    ///
    /// # Safety
    ///
    /// `path` is null or a C string.
    pub(crate) unsafe fn place(&self, directory: c_int, path: *const c_char) -> Option<Place> {
        // SAFETY: by the contract of this function.
        unsafe { self.root.place(directory, path) }
    }

    /// See [`Root::node`].
    pub(crate) fn node(&self, fd: c_int) -> Option<u64> {
        self.root.node(fd)
    }
}

impl Root {
    pub(crate) fn new(path: Vec<u8>) -> Self {
        Self(path)
    }

    /// The name that `path`, seen from `directory`, stands for, if it lies in the watched directory.
    ///
    /// # Safety
    ///
    /// `path` is null or a C string.
    pub(crate) unsafe fn place(&self, directory: c_int, path: *const c_char) -> Option<Place> {
        if path.is_null() {
            return None;
        }
        // SAFETY: by the contract of this function.
        let path = unsafe { CStr::from_ptr(path) }.to_bytes();
        let end = path.iter().rposition(|byte| *byte != b'/')? + 1;
        let path = &path[..end];
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(0) => (&b"/"[..], &path[1..]),
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b"."[..], path),
        };
        let parent = CString::new(parent).ok()?;
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: `parent` is a C string; the descriptor is ours, and closed below.
        let parent = unsafe { libc::syscall(libc::SYS_openat, directory, parent.as_ptr(), flags) };
        let parent = c_int::try_from(parent).ok().filter(|fd| *fd >= 0)?;
        let watched = self.node(parent);
        // SAFETY: opened above, and closed once.
        unsafe { libc::syscall(libc::SYS_close, parent) };
        Some(Place { directory: watched?, name: name.to_vec() })
    }

    /// The number of the file or directory behind a descriptor, if it lies in the watched directory or
    /// is that one. By what the kernel says, so that no table has to follow `dup` and `close`.
    pub(crate) fn node(&self, fd: c_int) -> Option<u64> {
        let status = status(fd)?;
        if !matches!(status.st_mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR) {
            return None;
        }
        let link = CString::new(format!("/proc/self/fd/{fd}")).ok()?;
        let mut path = [0_u8; libc::PATH_MAX as usize];
        // SAFETY: a C string, and a buffer with its length.
        let length = unsafe {
            let (to, room) = (path.as_mut_ptr(), path.len());
            libc::syscall(libc::SYS_readlinkat, libc::AT_FDCWD, link.as_ptr(), to, room)
        };
        let path = &path[..usize::try_from(length).ok()?];
        let below = path.strip_prefix(self.0.as_slice())?;
        (below.is_empty() || below[0] == b'/').then_some(status.st_ino)
    }
}

impl Turn<'_> {
    /// Writes a record down.
    pub(crate) fn record(&self, record: Record<'_>) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let log = self.watch.log;
            // SAFETY: a buffer with its length.
            let n = unsafe { libc::syscall(libc::SYS_write, log, rest.as_ptr(), rest.len()) };
            match usize::try_from(n) {
                Ok(n) => rest = &rest[n..],
                Err(_) => refuse("a log that cannot be written"),
            }
        }
    }
}

/// The watch and the node of a descriptor, if it is a watched one.
pub(crate) fn watched(fd: c_int) -> Option<(&'static Watch, u64)> {
    let watch = watch()?;
    Some((watch, watch.node(fd)?))
}

/// What `fstat` says.
pub(crate) fn status(fd: c_int) -> Option<libc::stat> {
    let mut status = MaybeUninit::uninit();
    // SAFETY: room for one `stat`, which is filled in when it succeeds.
    unsafe { (libc::fstat(fd, status.as_mut_ptr()) == 0).then(|| status.assume_init()) }
}

/// Ends the process: what follows could not be judged.
pub(crate) fn refuse(what: &str) -> ! {
    let message = format!("power-loss shim: {what}: not supported in the watched directory\n");
    // SAFETY: a buffer with its length.
    unsafe { libc::syscall(libc::SYS_write, 2, message.as_ptr(), message.len()) };
    std::process::abort()
}
