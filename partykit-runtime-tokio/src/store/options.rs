/// How much memory a store on disk may use for itself, and how many files it holds open.
///
/// ```
/// use partykit_runtime_tokio::StoreOptions;
///
/// let options = StoreOptions::default().write_memory(256 << 20).cache(128 << 20);
/// assert_eq!(options, StoreOptions::default().cache(128 << 20).write_memory(256 << 20));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    write_memory: u64,
    cache: u64,
    open_files: usize,
}

/// Into how many parts the memory for changes is divided: one that is written to, and three that are put
/// aside and wait for their way to a file.
const PARTS: u64 = 4;

impl Default for StoreOptions {
    fn default() -> Self {
        Self { write_memory: 32 << 20, cache: 4 << 20, open_files: 64 }
    }
}

impl StoreOptions {
    /// How many bytes of changes are kept in memory at most before commits wait for the disk. Keys and
    /// values are counted, and 64 bytes for each. The process needs about one and a half times this number
    /// under full load, and little of it without writes.
    ///
    /// More memory means fewer and larger files, so each row is rewritten less often. A quarter of it is
    /// also how long a file of the log is, and up to four of them are read when a store is opened after a
    /// crash.
    ///
    /// Default: 32 MiB. Limits: 4 MiB to 4 GiB; other values are taken as the nearest of these.
    #[must_use]
    pub fn write_memory(mut self, bytes: u64) -> Self {
        self.write_memory = bytes.clamp(4 << 20, 4 << 30);
        self
    }

    /// How many bytes of the files that were read last are kept in memory. Rooms keep what they use, so
    /// what is read again soon is small; a server whose rooms read much from the disk wants more.
    ///
    /// Default: 4 MiB. Limits: 1 MiB to 1 TiB; other values are taken as the nearest of these.
    #[must_use]
    pub fn cache(mut self, bytes: u64) -> Self {
        self.cache = bytes.clamp(1 << 20, 1 << 40);
        self
    }

    /// How many files of the store are kept open for reading. A file has about 16 MiB of rows. One that is
    /// not open is opened when it is read, which takes some microseconds.
    ///
    /// Default: 64. Limits: 8 to 65,536; other values are taken as the nearest of these.
    #[must_use]
    pub fn max_open_files(mut self, files: usize) -> Self {
        self.open_files = files.clamp(8, 65_536);
        self
    }

    /// How many bytes of changes are put aside at a time; and how long a file of the log is, unless one
    /// record needs more.
    pub(super) fn part(&self) -> u64 {
        self.write_memory / PARTS
    }

    /// How many parts may wait for their way to a file before commits wait too.
    pub(super) const fn waiting() -> usize {
        PARTS as usize - 1
    }

    pub(super) fn cache_bytes(&self) -> u64 {
        self.cache
    }

    pub(super) fn open_files(&self) -> usize {
        self.open_files
    }
}
