//! Where objects come from.

mod catalog;
pub mod directory;
mod document;
mod fault;
mod field;
mod follow;
mod name;

use tidegate_model::Problem;

use crate::Change;

/// What a source tells: first a complete view, then what changes.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// Since the last update.
    pub changes: Vec<Change>,
    /// Every problem that the source has now (not only new ones).
    pub problems: Vec<Problem>,
}
