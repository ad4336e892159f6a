//! What the tests have in common.

pub(crate) mod client;
pub(crate) mod load;
pub(crate) mod metrics;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod room;
pub(crate) mod site;
