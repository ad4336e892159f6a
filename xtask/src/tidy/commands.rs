//! Commands that the pages show: each must be one that its program takes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Parser;

use super::{File, Finding, markdown};
use crate::{Cli, build};

/// How pages start the proxy.
const PROXY: [&str; 2] = ["tidegate ", "cargo run --release -- "];

/// A command line of a page.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    place: String,
    words: Vec<String>,
}

pub(super) fn check(files: &[File]) -> Result<Vec<Finding>> {
    let pages: Vec<&File> = files
        .iter()
        .filter(|file| file.has_extension("md"))
        .collect();
    let mut findings = Vec::new();
    for shown in pages
        .iter()
        .flat_map(|page| commands(page, &["cargo xtask "]))
    {
        findings.extend(own(&shown));
    }
    let mut proxy = Proxy::build()?;
    for shown in pages.iter().flat_map(|page| commands(page, &PROXY)) {
        findings.extend(proxy.check(&shown)?);
    }
    Ok(findings)
}

/// Commands in the shell blocks of a page that start so, without the start.
fn commands(page: &File, starts: &[&str]) -> Vec<Shown> {
    let fences = markdown::fences(&page.text);
    let shells = fences
        .iter()
        .filter(|fence| matches!(fence.language, "sh" | "console"));
    let lines = shells.flat_map(|fence| {
        // A backslash at a line's end joins it with the next one, as in a shell.
        let code = fence.code.join("\n").replace("\\\n", " ");
        code.lines()
            .map(|line| (fence.line, line.to_owned()))
            .collect::<Vec<_>>()
    });
    lines
        .filter_map(|(line, text)| {
            let text = text.trim_start_matches("$ ");
            let rest = starts.iter().find_map(|start| text.strip_prefix(start))?;
            let rest = rest.split([';', '|', '#', '&']).next().unwrap_or(rest);
            Some(Shown {
                place: page.place(line),
                words: rest.split_whitespace().map(str::to_owned).collect(),
            })
        })
        .collect()
}

/// Whether this very program takes the command.
fn own(shown: &Shown) -> Option<Finding> {
    let words = ["cargo xtask"]
        .into_iter()
        .chain(shown.words.iter().map(String::as_str));
    let error = Cli::try_parse_from(words)
        .err()
        .filter(clap::Error::use_stderr)?;
    let message = error.to_string();
    let first = message.lines().next().unwrap_or_default();
    Some(Finding::new(
        &shown.place,
        format!("`cargo xtask {}`: {first}", shown.words.join(" ")),
    ))
}

/// The built proxy and what it says of its commands.
#[derive(Debug)]
struct Proxy {
    program: PathBuf,
    help: BTreeMap<String, String>,
}

impl Proxy {
    fn build() -> Result<Self> {
        Ok(Self {
            program: build::as_tested()?,
            help: BTreeMap::new(),
        })
    }

    fn check(&mut self, shown: &Shown) -> Result<Vec<Finding>> {
        let subcommand = shown.words.first().filter(|word| !word.starts_with('-'));
        let help = self.help(subcommand.map_or("", String::as_str))?;
        let Some(help) = help else {
            let message = format!("tidegate has no command `{}`", shown.words.join(" "));
            return Ok(vec![Finding::new(&shown.place, message)]);
        };
        let flags = shown.words.iter().filter(|word| word.starts_with("--"));
        let names = flags.map(|flag| flag.split('=').next().unwrap_or(flag));
        let unknown = names.filter(|name| !knows(help, name));
        Ok(unknown
            .map(|name| {
                Finding::new(
                    &shown.place,
                    format!("the help of tidegate does not know {name}"),
                )
            })
            .collect())
    }

    /// The help of a command, `None` when there is no such command.
    fn help(&mut self, subcommand: &str) -> Result<Option<&String>> {
        if !self.help.contains_key(subcommand) {
            let mut command = Command::new(&self.program);
            command
                .args([subcommand].iter().filter(|name| !name.is_empty()))
                .arg("--help");
            let output = command
                .output()
                .with_context(|| format!("cannot run {}", self.program.display()))?;
            if !output.status.success() {
                return Ok(None);
            }
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            self.help.insert(subcommand.to_owned(), text);
        }
        Ok(self.help.get(subcommand))
    }
}

fn knows(help: &str, flag: &str) -> bool {
    let mut words = help.split(|letter: char| !letter.is_alphanumeric() && letter != '-');
    words.any(|word| word == flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<Shown> {
        let page = File {
            path: "p.md".into(),
            text: text.to_owned(),
        };
        commands(&page, &["cargo xtask "])
    }

    #[test]
    fn commands_stand_in_shell_blocks() {
        let page = "cargo xtask no\n```sh\n$ cargo xtask test \\\n  rust # comment\n```\n```text\ncargo xtask no\n```\n";
        let found = shown(page);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].place.as_str(), found[0].words.join(" ")),
            ("p.md:3", "test rust".to_owned())
        );
    }

    #[test]
    fn own_commands_are_parsed_by_the_program_itself() {
        let verdict =
            |line: &str| own(&shown(&format!("```sh\ncargo xtask {line}\n```\n"))[0]).is_none();
        assert!(verdict("test"));
        assert!(verdict("test golden sockets"));
        assert!(verdict("bench --help"));
        assert!(!verdict("test everything"));
        assert!(!verdict("fly"));
    }

    #[test]
    fn flags_are_whole_words() {
        let help = "  --http <ADDR>  Where\n  [--access-log=json]";
        assert!(knows(help, "--http") && knows(help, "--access-log"));
        assert!(!knows(help, "--https") && !knows(help, "--access"));
    }
}
