//! Where objects come from.

mod catalog;
pub mod cluster;
pub mod directory;
mod document;
mod fault;
mod field;
mod follow;
pub(crate) mod name;

use std::sync::Arc;

use tidegate_model::Problem;

use crate::Change;
use crate::translate::Referenced;

/// What a source tells: first a complete view, in one update or several, then what changes.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// Since the last update.
    pub changes: Vec<Change>,
    /// Every problem that the source has now (not only new ones).
    pub problems: Vec<Problem>,
    /// How far the source has come.
    pub view: View,
    /// What is referred to and wholly told by now, from a source that holds only that; `None` from one that holds all.
    pub answered: Option<Arc<Referenced>>,
}

/// How much of everything a source has told with an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Enough to know which objects are [referred to](crate::translate::Referenced), and not those themselves. Nothing is
    /// published before the first complete view.
    Partial,
    /// All of it.
    #[default]
    Complete,
}
