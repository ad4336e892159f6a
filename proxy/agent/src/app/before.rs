//! What a process that starts finds: who has its ports, and what was served last.

use std::net::SocketAddr;

use tracing::warn;

use super::Origin;
use crate::cache::{Cache, Saved};
use crate::hand_over::{Found, Ownership};
use crate::listening;
use crate::settings::Settings;

impl Found {
    /// The same, but for a process that has none of these addresses, from which there is nothing to take over.
    pub(super) fn among(self, wanted: &tidegate_dataplane::Settings) -> Self {
        let Self::Someone(predecessor) = &self else {
            return self;
        };
        let theirs = &predecessor.ownership.listeners;
        let mut ours = wanted.http.iter().chain(&wanted.https);
        if ours.any(|address| listening::is_among(*address, theirs)) {
            return self;
        }
        let texts: Vec<_> = theirs.iter().map(SocketAddr::to_string).collect();
        Self::Apart(texts.join(", "))
    }
}

/// The process to take over from; what stands in the way of one is logged.
pub(super) fn predecessor_of<'a>(from: &'a Found, instance: &str) -> Option<&'a Ownership> {
    match from {
        Found::Someone(predecessor) => return Some(&predecessor.ownership),
        Found::Nobody(_) => {}
        Found::Silent => warn!(
            "hand-over: a process of instance {instance} has its name and does not answer; the ports are taken from it \
             all the same"
        ),
        Found::Apart(theirs) => warn!(
            "hand-over: a process of instance {instance} runs on other ports ({theirs}): both go on, but this one has no \
             name and cannot hand over: give it one of its own with --instance"
        ),
        Found::Foreign(user) => warn!(
            "hand-over: instance {instance} is named by a process of user {user}, who cannot share ports with this one; \
             it starts without, and cannot hand over: give it another name with --instance"
        ),
    }
    None
}

/// Fails for an address that is in use by someone who will not hand it over.
pub(super) fn refuse_taken(
    settings: &Settings,
    predecessor: Option<&Ownership>,
) -> anyhow::Result<()> {
    let theirs: Vec<SocketAddr> = predecessor
        .map(|before| {
            before
                .listeners
                .iter()
                .copied()
                .chain(before.admin)
                .collect()
        })
        .unwrap_or_default();
    let ours = [&settings.dataplane.http, &settings.dataplane.https];
    let ours = ours.into_iter().flatten().chain(&settings.admin);
    listening::refuse_taken(ours.filter(|address| !listening::is_among(**address, &theirs)))
}

/// What an earlier process served last: the running one tells it, else it is in the cache.
pub(super) async fn last_good(cache: Option<&Cache>, from: &mut Found) -> Option<(Saved, Origin)> {
    let cache = cache?;
    if let Found::Someone(predecessor) = from
        && let Some(memory) = predecessor.last_good().await
    {
        match cache.import(memory) {
            Ok(saved) => return Some((saved, Origin::Predecessor)),
            Err(error) => {
                warn!("hand-over: what the old process serves cannot be used here: {error}");
            }
        }
    }
    let saved = cache.last_good().await?;
    Some((saved, Origin::Cache))
}
