//! What is wrong with objects that came.

use std::collections::BTreeMap;

use tidegate_model::{ObjectRef, Problem};

/// At most one problem for each object.
#[derive(Debug, Default)]
pub(super) struct Problems {
    current: BTreeMap<ObjectRef, Problem>,
    /// Whether they are others than those told last.
    are_others: bool,
}

impl Problems {
    pub(super) fn raise(&mut self, object: ObjectRef, problem: Problem) {
        if self.current.get(&object) != Some(&problem) {
            self.current.insert(object, problem);
            self.are_others = true;
        }
    }

    /// The object has no problem that is ours to tell.
    pub(super) fn settle(&mut self, object: &ObjectRef) {
        self.are_others |= self.current.remove(object).is_some();
    }

    /// Whether they are others than those told last.
    pub(super) fn are_others(&self) -> bool {
        self.are_others
    }

    /// All of them, sorted.
    pub(super) fn tell(&mut self) -> Vec<Problem> {
        self.are_others = false;
        self.current.values().cloned().collect()
    }
}
