//! Heads, sizes and line ends of files.

use super::{File, Finding};

/// Lines of a Rust file without its tests: above this it falls into parts that have names of their own.
const MOST_LINES: usize = 700;

pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    if file.has_extension("rs") {
        findings.extend(head(file));
        findings.extend(size(file));
    }
    if !is_test_data(file) {
        findings.extend(line_ends(file));
    }
    findings
}

/// Inputs and outcomes of tests hold whatever the test wants.
fn is_test_data(file: &File) -> bool {
    !file.has_extension("rs") && in_tests(file)
}

fn in_tests(file: &File) -> bool {
    file.path.components().any(|part| {
        let part = part.as_os_str();
        part == "tests" || part == "tests.rs"
    })
}

fn head(file: &File) -> Option<Finding> {
    let opens = file.text.starts_with("//! ");
    (!opens).then(|| {
        Finding::new(
            file.place(1),
            "open the file with a `//!` line that says what it is for",
        )
    })
}

fn size(file: &File) -> Option<Finding> {
    let lines = lines_without_tests(&file.text);
    (!in_tests(file) && lines > MOST_LINES).then(|| {
        let message =
            format!("{lines} lines without tests; split it into parts of some 500 lines at most");
        Finding::new(file.path.display().to_string(), message)
    })
}

fn lines_without_tests(text: &str) -> usize {
    let code = text
        .find("\n#[cfg(test)]\nmod tests {")
        .map_or(text, |end| &text[..end]);
    code.lines().count()
}

fn line_ends(file: &File) -> Vec<Finding> {
    let trailing = file
        .text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.ends_with([' ', '\t', '\r']));
    let mut findings: Vec<_> = trailing
        .map(|(index, _)| {
            Finding::new(file.place(index + 1), "remove the blanks at the line's end")
        })
        .collect();
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        findings.push(Finding::new(
            file.place(file.text.lines().count()),
            "end the last line",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(path: &str, text: &str) -> Vec<String> {
        let file = File {
            path: path.into(),
            text: text.to_owned(),
        };
        check(&file)
            .into_iter()
            .map(|finding| finding.place)
            .collect()
    }

    #[test]
    fn a_rust_file_says_what_it_is_for() {
        assert_eq!(places("a.rs", "use x;\n"), ["a.rs:1"]);
        assert!(places("a.rs", "//! A.\n").is_empty());
        assert!(places("a.md", "# A\n").is_empty());
    }

    #[test]
    fn tests_do_not_count_as_lines() {
        let tests = "\n#[cfg(test)]\nmod tests {\n".to_owned() + &"//\n".repeat(800);
        assert!(places("a.rs", &format!("//! A.\n{tests}}}\n")).is_empty());
        let long = "//! A.\n".to_owned() + &"//\n".repeat(700);
        assert_eq!(places("a.rs", &long), ["a.rs"]);
        assert!(places("a/tests.rs", &long).is_empty());
    }

    #[test]
    fn lines_end_at_their_last_letter() {
        assert_eq!(
            places("a.md", "one \ntwo\t\nthree"),
            ["a.md:1", "a.md:2", "a.md:3"]
        );
        assert!(places("tests/a.yaml", "one \n").is_empty());
    }
}
