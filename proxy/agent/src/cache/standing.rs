//! How a cache stands, for metrics, `/readyz?verbose` and the log.

use std::time::Duration;

use tidegate_model::UnixTime;

/// What a cache can do now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CacheState {
    /// The file is being opened.
    #[default]
    Starting,
    /// It is open, and what is published is written first.
    Writing,
    /// It could be read when this process started, and cannot be written.
    ReadOnly,
    /// It can be neither read nor written; tried again from time to time.
    Failing,
    /// The disk has not answered within the time that a commit may take.
    Hanging,
    /// Another process of the instance has it.
    Elsewhere,
    /// Closed, for a successor or for good.
    Released,
}

impl CacheState {
    /// The word for it in metrics and pages.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Writing => "writing",
            Self::ReadOnly => "read-only",
            Self::Failing => "failing",
            Self::Hanging => "hanging",
            Self::Elsewhere => "elsewhere",
            Self::Released => "released",
        }
    }

    /// All of them, for metrics that have a series each.
    pub(crate) const ALL: [Self; 7] = [
        Self::Starting,
        Self::Writing,
        Self::ReadOnly,
        Self::Failing,
        Self::Hanging,
        Self::Elsewhere,
        Self::Released,
    ];
}

/// How a cache stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct CacheStanding {
    /// What it can do.
    pub(crate) state: CacheState,
    /// Why it cannot do more, in words; what happened last, so it stays after the end of a failure.
    pub(crate) last_error: Option<String>,
    /// When the newest state on disk was written.
    pub(crate) saved_at: Option<UnixTime>,
    /// Entries on disk: hosts, upstreams, certificates and where they are used.
    pub(crate) entries: u64,
    /// Length of the file.
    pub(crate) file_bytes: u64,
    /// Commits of this process.
    pub(crate) commits: u64,
    /// Bytes of values in all of them.
    pub(crate) written_bytes: u64,
    /// Entries written or taken out in all of them.
    pub(crate) written_entries: u64,
    /// How long the last one took.
    pub(crate) last_commit: Option<Duration>,
    /// Attempts to open or to commit that failed.
    pub(crate) failures: u64,
    /// Files set aside.
    pub(crate) set_aside: u64,
    /// Whether a snapshot waits that is newer than what is on disk.
    pub(crate) is_behind: bool,
    /// How long opening and reading took, when something was read.
    pub(crate) load: Option<Duration>,
}
