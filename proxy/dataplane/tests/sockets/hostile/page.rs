//! The page and the tests name the same cases.

use std::collections::BTreeMap;

const PAGE: &str = include_str!("../../../../../docs/hostile-inputs.md");

/// Cells of the page's rows whose first one is an id.
fn page_rows() -> Vec<Vec<&'static str>> {
    let lines = PAGE.lines().filter(|line| line.starts_with("| `"));
    lines
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

/// Adds a row, which has to be the only one of its id.
fn add<'a>(rows: &mut BTreeMap<&'a str, String>, id: &'a str, outcome: String) {
    assert!(rows.insert(id, outcome).is_none(), "two rows of {id}");
}

#[test]
fn every_row_of_the_page_is_a_test_and_every_test_a_row() {
    let (mut told, mut tested) = (BTreeMap::new(), BTreeMap::new());
    for cells in page_rows() {
        let [id, .., outcome] = &cells[..] else {
            panic!("no row: {cells:?}");
        };
        let outcome = outcome.split([' ', ',', ':']).next().unwrap_or_default();
        add(&mut told, id.trim_matches('`'), outcome.to_owned());
    }
    let tables = [
        super::requests::rows(),
        super::bodies::rows(),
        super::cleaned::rows(),
        super::paths::rows(),
        super::responses::rows(),
    ];
    for (id, outcome) in tables.into_iter().flatten() {
        add(&mut tested, id, outcome);
    }
    assert_eq!(told, tested);
}
