//! Edits of heads on their way through.

pub(crate) mod forwarded;
pub(crate) mod hop;
pub(crate) mod redirect;
