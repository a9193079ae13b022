use std::{io, path::PathBuf};

/// Why there is no Worker, or why it does not do what it is told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written, or a program cannot be started.
    #[error("{path}: {source}", path = .0.display(), source = .1)]
    File(PathBuf, #[source] io::Error),
    /// `wrangler.jsonc` is not what it has to be.
    #[error("{path}: {why}", path = .0.display(), why = .1)]
    Project(PathBuf, String),
    /// There is no `workerd` where npm puts it.
    #[error("no workerd at {path}: run `cargo xtask setup`, or name one: WORKERD", path = .0.display())]
    NotInstalled(PathBuf),
    /// `workerd` ended before it listened. The text is what it said.
    #[error("workerd did not start:\n{0}")]
    NotStarted(String),
    /// The control did not answer.
    #[error("workerd does not answer: {0}")]
    Unreachable(#[from] io::Error),
    /// The control refused: there is no such class, or the room did not come to rest within 30 s.
    #[error("workerd refuses: {0}")]
    Refused(String),
}
