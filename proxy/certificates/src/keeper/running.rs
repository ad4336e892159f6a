//! What a keeper is carrying out.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use futures_util::stream::FuturesUnordered;
use tidegate_model::HostPattern;

use crate::names::{NameSet, SetId};
use crate::store::StoreError;

/// Most sets of names at a time that something is carried out for.
const MOST: usize = 8;

/// Something that is being carried out for a set of names.
pub(super) type Work<'a> =
    Pin<Box<dyn Future<Output = (SetId, Result<(), StoreError>)> + Send + 'a>>;

/// What is being carried out.
#[derive(Default)]
pub(super) struct Running<'a> {
    pub(super) work: FuturesUnordered<Work<'a>>,
    /// Whose, with the names that answers are out for.
    sets: Vec<(SetId, BTreeSet<HostPattern>)>,
}

impl<'a> Running<'a> {
    /// Begins work for a set. `names` are those that answers are out for meanwhile.
    pub(super) fn begin(
        &mut self,
        id: SetId,
        names: BTreeSet<HostPattern>,
        work: impl Future<Output = (SetId, Result<(), StoreError>)> + Send + 'a,
    ) {
        self.sets.push((id, names));
        self.work.push(Box::pin(work));
    }

    /// The work for a set has come to its end.
    pub(super) fn end(&mut self, id: &SetId) {
        self.sets.retain(|(running, _)| running != id);
    }

    /// Whether something is being carried out for a set.
    pub(super) fn has(&self, id: &SetId) -> bool {
        self.sets.iter().any(|(running, _)| running == id)
    }

    /// Orders that share a name would take each other's answers away.
    pub(super) fn shares_a_name(&self, names: &NameSet) -> bool {
        let mut running = self.sets.iter();
        running.any(|(_, taken)| names.iter().any(|name| taken.contains(name)))
    }

    /// Whether it is as much as may be at a time.
    pub(super) fn is_full(&self) -> bool {
        self.sets.len() >= MOST
    }
}
