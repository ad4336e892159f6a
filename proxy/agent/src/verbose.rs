//! `/readyz?verbose`: what is served and from where, and how cache, watches and election stand, a line each.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate_model::UnixTime;

use crate::app::{InForce, Shared};
use crate::cache::Cache;
use crate::certs::CertsPages;
use crate::clock;
use crate::settings::live::Pending;

/// The parts of an instance that have something to tell beside what holds readiness back.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// Where the last good configuration is kept.
    pub(crate) cache: Option<Cache>,
    /// Of an agent of a cluster.
    pub(crate) cluster: Option<Shared>,
    /// What is written in the settings and not in force.
    pub(crate) pending: Pending,
    /// Who answers questions about certificates.
    pub(crate) certs: Option<Arc<dyn CertsPages>>,
}

impl Parts {
    /// The lines.
    pub(crate) fn lines(&self, in_force: Option<&InForce>) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        match in_force {
            None => text.push_str("configuration: none yet\n"),
            Some(in_force) => {
                let age = since(in_force.made_at);
                let InForce {
                    generation, origin, ..
                } = in_force;
                _ = writeln!(
                    text,
                    "configuration: number {generation}, from the {origin}, {age} s old"
                );
            }
        }
        if let Some(cache) = &self.cache {
            cache_line(&mut text, cache);
        }
        if let Some(shared) = &self.cluster {
            watch_lines(&mut text, shared);
            leader_line(&mut text, shared);
        }
        for remark in self.pending.remarks() {
            _ = writeln!(text, "{remark}");
        }
        text
    }
}

fn cache_line(text: &mut String, cache: &Cache) {
    let standing = cache.standing();
    _ = write!(text, "cache: {}", standing.state.as_str());
    if let Some(saved_at) = standing.saved_at {
        _ = write!(text, ", written {} s ago", since(saved_at));
    }
    if standing.is_behind {
        text.push_str(", behind what is served");
    }
    if let Some(error) = &standing.last_error {
        _ = write!(text, "; last error: {error}");
    }
    text.push('\n');
}

fn watch_lines(text: &mut String, shared: &Shared) {
    let health = shared.health.snapshot();
    for (name, watch) in &health.watches {
        let state = match watch.is_synced {
            true => "in view",
            false => "not in view yet",
        };
        _ = write!(text, "watch {name}: {state}, {} held", watch.held);
        if let Some(heard) = watch.last_heard {
            _ = write!(text, ", heard {} s ago", elapsed(heard));
        }
        if let Some(failing) = &watch.failing {
            let for_how_long = elapsed(failing.since);
            _ = write!(text, "; failing for {for_how_long} s: {}", failing.error);
        }
        text.push('\n');
    }
    for (name, error) in &health.secrets {
        _ = writeln!(text, "secret {name}: cannot be fetched: {error}");
    }
}

fn leader_line(text: &mut String, shared: &Shared) {
    let facts = shared.election.facts();
    _ = match (facts.is_leader, facts.holder.as_str()) {
        (true, _) => writeln!(text, "leader: this process"),
        (false, "") => writeln!(text, "leader: none is known"),
        (false, holder) => writeln!(text, "leader: {holder}"),
    };
    if let Some(trouble) = facts.trouble {
        _ = writeln!(text, "election: {trouble}");
    }
}

/// Whole seconds since then; 0 for a time that is ahead.
fn since(UnixTime(then): UnixTime) -> i64 {
    clock::now().0.saturating_sub(then).max(0)
}

fn elapsed(then: SystemTime) -> u64 {
    then.elapsed().unwrap_or(Duration::ZERO).as_secs()
}
