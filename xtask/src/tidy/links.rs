//! Links between pages, and the book's table of contents.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::{File, Finding, markdown};

const SUMMARY: &str = "docs/SUMMARY.md";

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let pages = || files.iter().filter(|file| file.has_extension("md"));
    let broken = pages().flat_map(|page| broken_links(page, files));
    broken.chain(unlisted(files)).collect()
}

fn broken_links(page: &File, files: &[File]) -> Vec<Finding> {
    let links = markdown::links(&page.text);
    let broken = links.into_iter().filter_map(|(line, link)| {
        let why = trouble(page, link, files)?;
        Some(Finding::new(
            page.place(line),
            format!("the link to {link} is broken: {why}"),
        ))
    });
    broken.collect()
}

/// What is wrong with a link, if anything.
fn trouble(page: &File, link: &str, files: &[File]) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link
        .split_once('#')
        .map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = if path.is_empty() {
        page.path.clone()
    } else {
        within_workspace(&page.path, path)
    };
    let file = files.iter().find(|file| file.path == target);
    if file.is_none() && !crate::root().join(&target).exists() {
        return Some(format!("there is no {}", target.display()));
    }
    let (file, anchor) = (file?, anchor?);
    let anchors = markdown::anchors(&file.text);
    (!anchors.iter().any(|found| found == anchor))
        .then(|| format!("{} has no heading of that name", file.path.display()))
}

/// A link's target, from the workspace's folder.
fn within_workspace(page: &Path, link: &str) -> PathBuf {
    let mut target = page.parent().unwrap_or(page).to_owned();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => _ = target.pop(),
            Component::CurDir => {}
            part => target.push(part),
        }
    }
    target
}

/// Pages of the book that its table of contents leaves out. Examples are found through their own folder.
fn unlisted(files: &[File]) -> Vec<Finding> {
    let Some(summary) = files.iter().find(|file| file.path == Path::new(SUMMARY)) else {
        return vec![Finding::new(
            SUMMARY,
            "is missing; the book needs its table of contents",
        )];
    };
    let links = markdown::links(&summary.text);
    let listed: BTreeSet<PathBuf> = links
        .into_iter()
        .map(|(_, link)| link.split('#').next().unwrap_or(link))
        .map(|path| within_workspace(&summary.path, path))
        .collect();
    let pages = files.iter().filter(|file| {
        file.has_extension("md")
            && file.path.starts_with("docs")
            && !file.path.starts_with("docs/examples")
            && file.path != summary.path
    });
    let unlisted = pages.filter(|page| !listed.contains(&page.path));
    unlisted
        .map(|page| {
            Finding::new(
                page.path.display().to_string(),
                format!("list the page in {SUMMARY}"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.into(),
            text: text.to_owned(),
        }
    }

    fn messages(files: &[File]) -> Vec<String> {
        check(files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_lead_to_pages_and_headings() {
        let files = [
            file(SUMMARY, "[a](a.md)\n[b](deep/b.md#there)\n"),
            file(
                "docs/a.md",
                "[b](deep/b.md#nowhere) [self](#a-page)\n\n# A page\n",
            ),
            file(
                "docs/deep/b.md",
                "# There\n[up](../a.md) [gone](c.md) [web](https://example.com/)\n",
            ),
        ];
        assert_eq!(
            messages(&files),
            [
                "docs/a.md:1: the link to deep/b.md#nowhere is broken: docs/deep/b.md has no heading of that name",
                "docs/deep/b.md:2: the link to c.md is broken: there is no docs/deep/c.md",
            ]
        );
    }

    #[test]
    fn every_page_is_in_the_table_of_contents() {
        let files = [
            file(SUMMARY, "# Summary\n"),
            file("docs/a.md", "# A\n"),
            file("docs/examples/x/README.md", "# X\n"),
            file("README.md", "# R\n"),
        ];
        assert_eq!(
            messages(&files),
            ["docs/a.md: list the page in docs/SUMMARY.md"]
        );
    }
}
