//! The page of results: each measurement replaces its own section and leaves the others alone.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

/// Puts a section in place of the one with the same name, or at the page's end.
pub(crate) fn replace(page: &Path, section: &str, body: &str) -> Result<()> {
    let text = match fs::read_to_string(page) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok("# Benchmarks\n".to_owned()),
        read => read,
    };
    let text = text.with_context(|| format!("cannot read {}", page.display()))?;
    fs::write(page, with_section(&text, section, body))
        .with_context(|| format!("cannot write {}", page.display()))
}

fn with_section(text: &str, section: &str, body: &str) -> String {
    let begin = format!("<!-- begin {section} -->\n");
    let end = format!("<!-- end {section} -->\n");
    let written = format!("{begin}\n{}\n\n{end}", body.trim());
    match (text.find(&begin), text.find(&end)) {
        (Some(from), Some(to)) if from < to => {
            format!("{}{written}{}", &text[..from], &text[to + end.len()..])
        }
        _ => format!("{}\n\n## {section}\n\n{written}", text.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_itself_only() {
        let first = with_section("# Page\n", "a", "one");
        let both = with_section(&first, "b", "two");
        let again = with_section(&both, "a", "three");
        assert_eq!(again, both.replace("one", "three"));
        assert!(again.contains("<!-- begin b -->\n\ntwo\n\n<!-- end b -->\n"));
    }
}
