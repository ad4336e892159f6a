//! Soon.
use std::path::Path;
use anyhow::Result;
use crate::Verdict;
pub(super) fn run(_: &Path, _: Option<&Path>) -> Result<Verdict> { Ok(Verdict::Pass) }
