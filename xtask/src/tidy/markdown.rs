//! As much of Markdown as the checks need: links, headings, fenced code.

/// A fenced block of code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fence<'a> {
    pub(super) language: &'a str,
    /// Number of its first line, counted from 1.
    pub(super) line: usize,
    pub(super) code: Vec<&'a str>,
}

/// The fenced blocks.
pub(super) fn fences(text: &str) -> Vec<Fence<'_>> {
    let mut fences = Vec::new();
    let mut open: Option<Fence<'_>> = None;
    for (index, line) in text.lines().enumerate() {
        let mark = line.trim_start().strip_prefix("```");
        match (mark, open.take()) {
            (Some(_), Some(fence)) => fences.push(fence),
            (Some(language), None) => {
                open = Some(Fence {
                    language: language.trim(),
                    line: index + 2,
                    code: Vec::new(),
                });
            }
            (None, Some(mut fence)) => {
                fence.code.push(line);
                open = Some(fence);
            }
            (None, None) => {}
        }
    }
    fences
}

/// The targets of links and pictures, each with its line's number.
pub(super) fn links(text: &str) -> Vec<(usize, &str)> {
    let lines = prose(text);
    let links = lines.flat_map(|(number, line)| {
        let starts = line
            .match_indices("](")
            .filter(move |(at, _)| !in_code(line, *at));
        starts.filter_map(move |(at, mark)| {
            let rest = &line[at + mark.len()..];
            let target = &rest[..rest.find(')')?];
            Some((number, target.split(' ').next().unwrap_or(target)))
        })
    });
    links.collect()
}

/// The anchors of the headings, made as mdBook and GitHub make them.
pub(super) fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter_map(|(_, line)| {
        let rest = line.trim_start_matches('#');
        (rest.len() < line.len()).then_some(rest.strip_prefix(' ')?)
    });
    headings.map(anchor).collect()
}

fn anchor(heading: &str) -> String {
    let letters = heading.trim().chars().filter_map(|letter| match letter {
        ' ' => Some('-'),
        '-' | '_' => Some(letter),
        _ if letter.is_alphanumeric() => Some(letter),
        _ => None,
    });
    letters.flat_map(char::to_lowercase).collect()
}

/// The lines outside of fenced code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let mark = line.trim_start().starts_with("```");
        fenced ^= mark;
        (!fenced && !mark).then_some((index + 1, line))
    })
}

fn in_code(line: &str, at: usize) -> bool {
    line[..at].matches('`').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# The `one` page\n\n[a](b.md#c), ![p](p.svg \"title\") and `[no](link)`\n\n\
        ```sh\n# no heading [x](y)\ncargo xtask test\n```\n\n## Second, with: marks\n";

    #[test]
    fn links_stand_outside_of_code() {
        assert_eq!(links(PAGE), [(3, "b.md#c"), (3, "p.svg")]);
    }

    #[test]
    fn headings_become_anchors() {
        assert_eq!(anchors(PAGE), ["the-one-page", "second-with-marks"]);
    }

    #[test]
    fn fences_keep_their_language_and_place() {
        let code = vec!["# no heading [x](y)", "cargo xtask test"];
        assert_eq!(
            fences(PAGE),
            [Fence {
                language: "sh",
                line: 6,
                code
            }]
        );
    }
}
