/// How much memory a store on disk may use, and how many files it holds open.
///
/// ```
/// use partykit_runtime_tokio::store::StoreOptions;
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

/// The memory for changes has this many parts: one that is written to, and three that wait to be written to a
/// file.
const PARTS: u64 = 4;

impl Default for StoreOptions {
    fn default() -> Self {
        Self { write_memory: 32 << 20, cache: 4 << 20, open_files: 64 }
    }
}

impl StoreOptions {
    /// The most bytes of changes in memory. When they are used up, commits wait for the disk. Keys and values
    /// count, and 64 bytes for each row. The process needs about one and a half times this number under full
    /// load, and little of it without writes.
    ///
    /// More memory means fewer and larger files, so each row is rewritten less often. A file of the log has a
    /// quarter of this length. Up to four such files are read when a store is opened after a crash.
    ///
    /// Default: 32 MiB. Limits: 4 MiB to 4 GiB; other values are taken as the nearest of these.
    #[must_use]
    pub fn write_memory(mut self, bytes: u64) -> Self {
        self.write_memory = bytes.clamp(4 << 20, 4 << 30);
        self
    }

    /// How many bytes of recently read files are kept in memory. A room reads its rows once after a start and
    /// keeps what it needs, so a small cache is enough for most servers. A server whose rooms read much from
    /// the disk needs more.
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

    /// The bytes of changes in one part. Also the length of a file of the log, unless one record needs more.
    pub(super) fn part(&self) -> u64 {
        self.write_memory / PARTS
    }

    /// How many parts may wait to be written to a file. When there are more, commits wait.
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
