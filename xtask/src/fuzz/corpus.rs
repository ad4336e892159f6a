//! What of a grown corpus is worth committing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Inputs that a committed corpus holds at most.
pub(super) const MOST: usize = 50;

/// An input and the places in the code that it reaches first, when small inputs run before large ones.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    file: PathBuf,
    places: usize,
}

/// Reads the record of a merge: the number of all files, the number of those from the first corpus, their names, then
/// for each of them a line `COV number place…` with what it reached that those before it had not.
fn found(record: &str) -> Result<Vec<Found>> {
    let mut lines = record.lines();
    let mut number = || -> Result<usize> {
        let line = lines.next().context("the record of the merge is empty")?;
        line.parse()
            .context("the record of the merge starts with no number")
    };
    let (all, old) = (number()?, number()?);
    let names: Vec<&str> = lines.by_ref().take(all).collect();
    let mut found = Vec::new();
    for line in lines.filter_map(|line| line.strip_prefix("COV ")) {
        let mut words = line.split_whitespace();
        let file = words.next().and_then(|word| word.parse::<usize>().ok());
        let file = file.context("the record of the merge names no file")?;
        let places = words.count();
        if let Some(name) = names.get(file).filter(|_| file >= old && places > 0) {
            found.push(Found {
                file: name.into(),
                places,
            });
        }
    }
    Ok(found)
}

/// Copies those that reach most into a committed corpus, until it holds [`MOST`] inputs. How many there are then.
pub(super) fn add(record: &str, committed: &Path) -> Result<usize> {
    let held = fs::read_dir(committed)?.count();
    let mut found = found(record)?;
    found.sort_by_key(|found| std::cmp::Reverse(found.places));
    found.truncate(MOST.saturating_sub(held));
    for Found { file, .. } in &found {
        let name = file.file_name().context("an input without a name")?;
        fs::copy(file, committed.join(name))
            .with_context(|| format!("cannot copy {}", file.display()))?;
    }
    Ok(held + found.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_reach_most_are_added_until_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let grown = folder.path().join("grown");
        let committed = folder.path().join("committed");
        fs::create_dir(&grown).unwrap();
        fs::create_dir(&committed).unwrap();
        for name in ["a", "b", "c"] {
            fs::write(grown.join(name), name).unwrap();
        }
        for number in 0..MOST - 1 {
            fs::write(committed.join(number.to_string()), "").unwrap();
        }
        let path = |name| grown.join(name).display().to_string();
        let record = format!(
            "4\n1\nold\n{}\n{}\n{}\nSTARTED 0 1\nFT 0 1 2\nCOV 0 7 8 9 10\nSTARTED 1 1\nCOV 1\nSTARTED 2 1\nCOV 2 1 2\nSTARTED 3 1\nCOV 3 3\n",
            path("a"),
            path("b"),
            path("c")
        );
        assert_eq!(add(&record, &committed).unwrap(), MOST);
        assert!(committed.join("b").exists());
        assert!(!committed.join("a").exists() && !committed.join("c").exists());
        assert_eq!(add(&record, &committed).unwrap(), MOST);
        assert!(found("").is_err() && found("x\n").is_err());
    }
}
