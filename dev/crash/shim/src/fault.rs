//! Operations that fail: one kind of call on files of the directory `PARTYKIT_FAULT_DIR`, from the k-th on.
//!
//! `PARTYKIT_FAULT` says which: `KIND ERROR FIRST COUNT`, for example `dirsync EIO 3 1`; a count of 0 is for
//! ever. `ERROR` is a name of [`ERRORS`]; with a `+` behind it the call is done and fails nevertheless; `SHORT`
//! writes half of what it is given. `PARTYKIT_FAULT_LOG` is a file that gets a line for each call, its kind.

use std::{
    env,
    ffi::{CString, c_char, c_int},
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::watch::{Root, refuse};

/// What can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Open,
    Create,
    Read,
    List,
    Stat,
    Lock,
    Write,
    Truncate,
    Fsync,
    Fdatasync,
    Dirsync,
    Rename,
    Link,
    Unlink,
    Mkdir,
}

const KINDS: [(&str, Kind); 15] = [
    ("open", Kind::Open),
    ("create", Kind::Create),
    ("read", Kind::Read),
    ("list", Kind::List),
    ("stat", Kind::Stat),
    ("lock", Kind::Lock),
    ("write", Kind::Write),
    ("truncate", Kind::Truncate),
    ("fsync", Kind::Fsync),
    ("fdatasync", Kind::Fdatasync),
    ("dirsync", Kind::Dirsync),
    ("rename", Kind::Rename),
    ("link", Kind::Link),
    ("unlink", Kind::Unlink),
    ("mkdir", Kind::Mkdir),
];

/// The errors by their names.
const ERRORS: [(&str, c_int); 5] = [
    ("EIO", libc::EIO),
    ("ENOSPC", libc::ENOSPC),
    ("EACCES", libc::EACCES),
    ("EINTR", libc::EINTR),
    ("EMFILE", libc::EMFILE),
];

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// It is not done, and fails.
    Fails(c_int),
    /// It is done, and fails.
    FailsAfter(c_int),
    /// It writes half.
    Short,
}

struct Faults {
    root: Root,
    log: Option<c_int>,
    plan: Option<Plan>,
    counts: [AtomicU64; KINDS.len()],
}

struct Plan {
    kind: Kind,
    verdict: Verdict,
    first: u64,
    count: u64,
}

/// What becomes of a call on a descriptor.
pub(crate) fn on(kind: Kind, fd: c_int) -> Option<Verdict> {
    let faults = faults()?;
    faults.root.node(fd)?;
    faults.next(kind)
}

/// What becomes of a call on a name.
///
/// # Safety
///
/// `path` is null or a C string.
pub(crate) unsafe fn at(kind: Kind, directory: c_int, path: *const c_char) -> Option<Verdict> {
    let faults = faults()?;
    // SAFETY: by the contract of this function.
    unsafe { faults.root.place(directory, path) }?;
    faults.next(kind)
}

/// Makes a call, or lets it fail.
pub(crate) fn around(verdict: Option<Verdict>, real: impl FnOnce() -> i64) -> i64 {
    let error = match verdict {
        None | Some(Verdict::Short) => return real(),
        Some(Verdict::Fails(error)) => error,
        Some(Verdict::FailsAfter(error)) => {
            let done = real();
            if done < 0 {
                return done;
            }
            error
        }
    };
    // SAFETY: `errno` is always there.
    unsafe { *libc::__errno_location() = error };
    -1
}

fn faults() -> Option<&'static Faults> {
    static FAULTS: OnceLock<Option<Faults>> = OnceLock::new();
    FAULTS.get_or_init(Faults::from_environment).as_ref()
}

impl Faults {
    /// Calls nothing that this library replaces: it runs inside of the first such call.
    fn from_environment() -> Option<Self> {
        let directory = env::var_os("PARTYKIT_FAULT_DIR")?;
        let Ok(root) = fs::canonicalize(&directory) else {
            refuse("a directory that is not there")
        };
        let log = env::var_os("PARTYKIT_FAULT_LOG").and_then(|log| {
            let log = CString::new(log.into_vec()).ok()?;
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
            let directory = libc::AT_FDCWD;
            // SAFETY: `log` is a C string.
            let fd =
                unsafe { libc::syscall(libc::SYS_openat, directory, log.as_ptr(), flags, 0o600) };
            c_int::try_from(fd).ok().filter(|fd| *fd >= 0)
        });
        let plan = env::var("PARTYKIT_FAULT").ok().map(|plan| {
            Plan::parse(&plan).unwrap_or_else(|| refuse("a fault that cannot be understood"))
        });
        let root = Root::new(root.as_os_str().as_bytes().to_vec());
        Some(Self { root, log, plan, counts: Default::default() })
    }

    fn next(&self, kind: Kind) -> Option<Verdict> {
        let place = KINDS.iter().position(|(_, one)| *one == kind)?;
        if let Some(log) = self.log {
            let line = format!("{}\n", KINDS[place].0);
            // SAFETY: a buffer with its length.
            unsafe { libc::syscall(libc::SYS_write, log, line.as_ptr(), line.len()) };
        }
        let number = self.counts[place].fetch_add(1, Ordering::SeqCst) + 1;
        let plan = self.plan.as_ref().filter(|plan| plan.kind == kind)?;
        let is_due = number >= plan.first && (plan.count == 0 || number < plan.first + plan.count);
        is_due.then_some(plan.verdict)
    }
}

impl Plan {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let name = words.next()?;
        let kind = KINDS.iter().find(|(one, _)| *one == name)?.1;
        let error = words.next()?;
        let known = |name: &str| Some(ERRORS.iter().find(|(one, _)| *one == name)?.1);
        let verdict = match error.strip_suffix('+') {
            _ if error == "SHORT" => Verdict::Short,
            Some(error) => Verdict::FailsAfter(known(error)?),
            None => Verdict::Fails(known(error)?),
        };
        let (first, count) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { kind, verdict, first, count })
    }
}
