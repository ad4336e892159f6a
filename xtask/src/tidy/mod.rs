//! `cargo xtask tidy`: what no compiler checks.

mod boundaries;
mod commands;
mod links;
mod markdown;
mod text;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::Verdict;
use crate::ebpf;
use crate::terminal::say;

/// Something to put right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file or crate, and where in it.
    place: String,
    /// What is wrong and what to do.
    message: String,
}

impl Finding {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Runs every check, those that need a build last.
pub(crate) fn run() -> Result<Verdict> {
    let sources = report(sources()?);
    let commands = report(commands()?);
    Ok(Verdict::of(sources && commands))
}

/// The checks that need no build.
pub(crate) fn sources() -> Result<Vec<Finding>> {
    let files = File::all()?;
    let mut findings = boundaries::check()?;
    findings.extend(files.iter().flat_map(text::check));
    findings.extend(links::check(&files));
    findings.extend(ebpf::wrong_checksum().map(|wrong| Finding::new(ebpf::checksum_path(), wrong)));
    Ok(findings)
}

/// The commands that the documentation shows, against the programs that it shows them of.
pub(crate) fn commands() -> Result<Vec<Finding>> {
    commands::check(&File::all()?)
}

/// Says what was found. Whether that was nothing.
pub(crate) fn report(mut findings: Vec<Finding>) -> bool {
    findings.sort();
    for finding in &findings {
        say(finding);
    }
    match findings.len() {
        0 => say("tidy"),
        count => say(format_args!("{count} to put right")),
    }
    findings.is_empty()
}

/// A text file of the workspace.
#[derive(Debug)]
struct File {
    /// From the workspace's folder.
    path: PathBuf,
    text: String,
}

impl File {
    /// Every text file that people write here, sorted.
    fn all() -> Result<Vec<Self>> {
        let root = crate::root();
        let mut files = Vec::new();
        Self::collect(&root, &root, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    fn collect(root: &Path, folder: &Path, files: &mut Vec<Self>) -> Result<()> {
        let entries =
            fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let within = path.strip_prefix(root).unwrap_or(&path);
            if path.is_dir() {
                let name = path.file_name().unwrap_or_default();
                let built = name == "target" || within == Path::new("docs/book");
                if !built && name != ".git" {
                    Self::collect(root, &path, files)?;
                }
            } else if is_text(&path) {
                // Files that come and go while an editor saves are no reason to stop.
                let Ok(text) = fs::read_to_string(&path) else {
                    continue;
                };
                let path = within.to_owned();
                files.push(Self { path, text });
            }
        }
        Ok(())
    }

    fn has_extension(&self, extension: &str) -> bool {
        self.path
            .extension()
            .is_some_and(|found| found == extension)
    }

    fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

fn is_text(path: &Path) -> bool {
    const EXTENSIONS: [&str; 9] = ["rs", "md", "toml", "yaml", "yml", "json", "sh", "c", "svg"];
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}
