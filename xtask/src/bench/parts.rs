//! Benchmarks of one part, which stand beside its code; their tables go to the same page.

use std::path::Path;

use anyhow::Result;

use super::document;
use crate::Verdict;
use crate::process;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    section: &'static str,
    package: &'static str,
    bench: &'static str,
}

impl Part {
    pub(super) const LOOKUP: Self = Self {
        section: "lookup",
        package: "tidegate-model",
        bench: "lookup",
    };

    pub(super) const TRANSLATE: Self = Self {
        section: "translate",
        package: "tidegate-controller",
        bench: "incremental",
    };

    /// Runs it and puts what it prints on the page.
    pub(super) fn measure(self, page: &Path) -> Result<Verdict> {
        let Self {
            section,
            package,
            bench,
        } = self;
        let shown = process::show(
            process::cargo().args(["bench", "--locked", "-p", package, "--bench", bench]),
        )?;
        if shown.success {
            let table = shown.output.trim_end();
            document::replace(page, section, &format!("```text\n{table}\n```"))?;
        }
        Ok(Verdict::of(shown.success))
    }
}
