//! What libFuzzer says while it runs.

/// The figures of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// After the corpus, before anything new.
    first: Option<Figures>,
    last: Option<Figures>,
    /// Whether the run ended without a failure.
    pub(super) success: bool,
    /// The file with the input that failed.
    pub(super) failure: Option<String>,
}

/// One line of figures: `#123 NEW cov: 45 ft: 67 corp: 8/90b … exec/s: 10 rss: 30Mb …`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Figures {
    /// Inputs run so far.
    inputs: u64,
    /// Places in the code that were reached.
    coverage: u64,
    /// Inputs that were worth keeping.
    corpus: u64,
    per_second: u64,
}

/// How lines start that say nothing to a reader.
const NOISE: [&str; 10] = [
    "INFO: ",
    "MERGE-",
    "WARNING: Failed to find function",
    "\tNEW_FUNC",
    "\tNEW_PC",
    "###### ",
    "Done ",
    "Dictionary: ",
    "NOTE: ",
    "      Combine libFuzzer",
];

impl Progress {
    /// Takes a line. Whether it is one of progress; others are for the reader.
    pub(super) fn note(&mut self, line: &str) -> bool {
        if let Some(figures) = Figures::of(line) {
            if line.contains("INITED") {
                self.first = Some(figures);
            }
            self.last = Some(figures);
            return true;
        }
        if let Some((_, file)) = line.split_once("Test unit written to ") {
            self.failure = Some(file.to_owned());
        }
        let is_recommended = line.starts_with('"') && line.contains("# Uses: ");
        line.is_empty() || is_recommended || NOISE.iter().any(|start| line.starts_with(start))
    }

    /// A row of the table.
    pub(super) fn cells(&self, target: &str) -> [String; 8] {
        let figure = |of: Option<Figures>, which: fn(Figures) -> u64| {
            of.map_or(String::new(), |figures| which(figures).to_string())
        };
        let result = if self.success { "passed" } else { "FAILED" };
        [
            target.to_owned(),
            result.to_owned(),
            figure(self.last, |figures| figures.inputs),
            figure(self.last, |figures| figures.per_second),
            figure(self.first, |figures| figures.coverage),
            figure(self.last, |figures| figures.coverage),
            figure(self.first, |figures| figures.corpus),
            figure(self.last, |figures| figures.corpus),
        ]
    }
}

impl Figures {
    fn of(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix('#')?.split_whitespace();
        let inputs = words.next()?.parse().ok()?;
        let words: Vec<&str> = words.collect();
        let after = |name: &str| {
            let place = words.iter().position(|word| *word == name)?;
            let digits = words.get(place + 1)?.split('/').next()?;
            digits.parse().ok()
        };
        Some(Self {
            inputs,
            coverage: after("cov:")?,
            corpus: after("corp:")?,
            per_second: after("exec/s:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_kept_and_words_passed_on() {
        let mut progress = Progress::default();
        for line in [
            "INFO: Seed: 1",
            "#3\tINITED cov: 4815 ft: 6179 corp: 2/148b exec/s: 0 rss: 37Mb",
            "\tNEW_FUNC[1/3]: 0x55",
            "#15393\tDONE   cov: 7671 ft: 13742 corp: 482/41Kb lim: 119 exec/s: 733 rss: 41Mb",
            "Done 15393 runs in 21 second(s)",
            "\"chunked\" # Uses: 3",
        ] {
            assert!(progress.note(line), "{line}");
        }
        assert!(!progress.note("thread '<unnamed>' (1) panicked at src/a.rs:1:2:"));
        assert!(!progress.note("artifact_prefix='a/'; Test unit written to a/crash-1"));
        assert_eq!(progress.failure.as_deref(), Some("a/crash-1"));
        assert_eq!(
            progress.cells("t"),
            ["t", "FAILED", "15393", "733", "4815", "7671", "2", "482"]
        );
    }
}
