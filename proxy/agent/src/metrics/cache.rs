//! How the cache stands.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};

use super::{count, counter, gauge, gauges};
use crate::cache::{Cache, CacheState};

/// Metrics about the cache.
#[derive(Debug)]
pub(crate) struct CacheMetrics {
    cache: Cache,
}

impl CacheMetrics {
    pub(crate) fn new(cache: Cache) -> Self {
        Self { cache }
    }
}

#[derive(Debug, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

impl Collector for CacheMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let standing = self.cache.standing();
        let states = CacheState::ALL.map(|state| {
            let label = InState {
                state: state.as_str(),
            };
            (label, i64::from(state == standing.state))
        });
        gauges(
            encoder,
            "cache_state",
            "Whether the cache of the last good configuration is written: 1 for the state that it is in",
            states.iter().map(|(label, value)| (label, *value)),
        )?;
        gauge(
            encoder,
            "cache_is_behind",
            "1 while what is in force is not yet in the cache",
            &i64::from(standing.is_behind),
        )?;
        if let Some(saved_at) = standing.saved_at {
            gauge(
                encoder,
                "cache_saved_timestamp_seconds",
                "When the cache was last written, since 1970",
                &saved_at.0,
            )?;
        }
        gauge(
            encoder,
            "cache_entries",
            "Hosts, upstreams and certificates in the cache",
            &count(standing.entries),
        )?;
        gauge(
            encoder,
            "cache_file_bytes",
            "Length of the cache's file",
            &count(standing.file_bytes),
        )?;
        if let Some(last_commit) = standing.last_commit {
            gauge(
                encoder,
                "cache_commit_seconds",
                "How long the last commit took",
                &last_commit.as_secs_f64(),
            )?;
        }
        counter(
            encoder,
            "cache_commits",
            "Configurations written to the cache",
            standing.commits,
        )?;
        counter(
            encoder,
            "cache_failures",
            "Attempts to open the cache or to write to it that failed",
            standing.failures,
        )?;
        counter(
            encoder,
            "cache_files_set_aside",
            "Files that could not be used and were renamed",
            standing.set_aside,
        )
    }
}
