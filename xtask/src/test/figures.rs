//! What the tests print that is worth a table: `test result:` lines of cargo, `figure:` lines of ours.

use std::ops::AddAssign;

/// Tests counted by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Tally {
    /// For a table: empty where there was no test at all.
    pub(crate) fn cells(self) -> [String; 3] {
        if self == Self::default() {
            return Default::default();
        }
        [self.passed, self.failed, self.ignored].map(|count| count.to_string())
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// Something that a test measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) unit: String,
}

/// The sum of the `test result:` lines.
pub(crate) fn tally(output: &str) -> Tally {
    let mut sum = Tally::default();
    for line in output
        .lines()
        .filter(|line| line.starts_with("test result: "))
    {
        let count = |word| {
            let part = line
                .split(['.', ';'])
                .find_map(|part| part.strip_suffix(word));
            part.and_then(|part| part.trim().parse().ok()).unwrap_or(0)
        };
        sum += Tally {
            passed: count(" passed"),
            failed: count(" failed"),
            ignored: count(" ignored"),
        };
    }
    sum
}

/// The lines `figure: NAME = VALUE UNIT`. A test's own name may stand before one on the same line.
pub(crate) fn figures(output: &str) -> Vec<Figure> {
    output.lines().filter_map(figure).collect()
}

fn figure(line: &str) -> Option<Figure> {
    let (_, figure) = line.split_once("figure: ")?;
    let (name, rest) = figure.split_once(" = ")?;
    let rest = rest.trim();
    let (value, unit) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(Figure {
        name: name.trim().to_owned(),
        value: value.to_owned(),
        unit: unit.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_add_up() {
        let output = "running 3 tests\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
        assert_eq!(
            tally(output),
            Tally {
                passed: 13,
                failed: 2,
                ignored: 1
            }
        );
        assert_eq!(tally("no test ran").cells(), ["", "", ""]);
    }

    #[test]
    fn figures_are_found_within_lines() {
        let found =
            figures("figure: edits under load = 1000\ntest a ... figure: p99 = 1.5 ms\nother\n");
        let parts: Vec<_> = found
            .iter()
            .map(|figure| [&*figure.name, &*figure.value, &*figure.unit])
            .collect();
        assert_eq!(
            parts,
            [["edits under load", "1000", ""], ["p99", "1.5", "ms"]]
        );
    }
}
