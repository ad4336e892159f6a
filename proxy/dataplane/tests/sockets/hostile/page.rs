//! The page and the tests name the same cases.

use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../../../../docs/hostile-inputs.md");

/// An id with the first word of the outcome.
type Row = (&'static str, String);

/// The page's rows whose first cell is an id.
fn page_rows() -> impl Iterator<Item = Row> {
    let lines = PAGE.lines().filter(|line| line.starts_with("| `"));
    lines.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [id, _, _, outcome] = cells[..] else {
            panic!("not four cells: {line}");
        };
        let word = outcome.split(|letter: char| !letter.is_alphanumeric());
        let word = word.into_iter().next().unwrap_or_default();
        (id.trim_matches('`'), word.to_owned())
    })
}

/// All rows, of which no two have the same id.
fn unique(rows: impl Iterator<Item = Row>) -> BTreeSet<Row> {
    let mut ids = BTreeSet::new();
    rows.inspect(|(id, _)| assert!(ids.insert(*id), "two rows of {id}"))
        .collect()
}

#[test]
fn every_row_of_the_page_is_a_test_and_every_test_a_row() {
    let tables = [
        super::requests::rows(),
        super::bodies::rows(),
        super::cleaned::rows(),
        super::paths::rows(),
        super::responses::rows(),
        super::misdirected::rows(),
    ];
    let (told, tested) = (unique(page_rows()), unique(tables.into_iter().flatten()));
    let untested: Vec<_> = told.difference(&tested).collect();
    let untold: Vec<_> = tested.difference(&told).collect();
    assert!(
        untested.is_empty() && untold.is_empty(),
        "only on the page: {untested:?}, only in the tests: {untold:?}"
    );
}

/// Tests that the page names in full, as module and function.
fn named_tests() -> impl Iterator<Item = (&'static str, &'static str)> {
    let spans = PAGE.split('`').skip(1).step_by(2);
    let pairs = spans.filter_map(|span| span.split_once("::"));
    // Addresses in brackets have two colons as well.
    pairs.filter(|(module, _)| module.starts_with(|letter: char| letter.is_ascii_lowercase()))
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sockets");
    for (module, function) in named_tests() {
        let text = std::fs::read_to_string(format!("{folder}/{module}.rs")).unwrap();
        let found = text.contains(&format!("#[test]\nfn {function}("));
        assert!(found, "{module}::{function}");
    }
    assert!(named_tests().count() > 0);
}
