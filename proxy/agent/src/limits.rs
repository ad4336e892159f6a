//! How many files the system lets the process open, and what follows for connections.

use std::num::NonZeroUsize;

use tracing::warn;

/// Connections when the system allows them.
const MOST: usize = 65_536;
/// Files that are no connections: listeners, logs, manifests, runtimes.
const OTHER_FILES: u64 = 512;

/// Connections of clients to hold at once unless a setting says otherwise. Each may need one to an endpoint.
pub(crate) fn default_connections() -> NonZeroUsize {
    let files = open_files().map_or(u64::MAX, |limit| limit.rlim_max);
    let connections = files.saturating_sub(OTHER_FILES) / 2;
    let connections = usize::try_from(connections).unwrap_or(usize::MAX).min(MOST);
    NonZeroUsize::new(connections).unwrap_or(NonZeroUsize::MIN)
}

/// Raises the soft limit of open files to the hard one: the soft one is low for the sake of programs that use
/// `select(2)`, which this one does not.
pub(crate) fn raise_open_files() {
    let Some(mut limit) = open_files() else {
        return;
    };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer is to a valid `rlimit` that lives through the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        let error = std::io::Error::last_os_error();
        warn!("cannot raise the limit of open files: {error}; it stays as it is");
    }
}

fn open_files() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a valid `rlimit` that lives through the call.
    let outcome = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    (outcome == 0).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_the_limit_of_open_files() {
        raise_open_files();
        let limit = open_files().unwrap();
        assert_eq!(limit.rlim_cur, limit.rlim_max);
        let connections = default_connections().get();
        assert!(connections <= MOST);
        assert!(connections as u64 * 2 <= limit.rlim_max);
    }
}
