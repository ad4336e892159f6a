//! What the figures were measured on and with.

use std::fs;
use std::process::Command;

use super::peers::{Peer, Site};
use crate::process;

/// Lines for the page: machine, versions, commit.
pub(crate) fn describe() -> Vec<(&'static str, String)> {
    vec![
        ("Date", said("date", &["-u", "+%Y-%m-%d"])),
        ("CPU", cpu()),
        ("Memory", memory()),
        ("Kernel", kernel()),
        ("Compiler", said("rustc", &["--version"])),
        ("Commit", commit()),
    ]
}

/// The proxies and their versions.
pub(super) fn proxies(peers: &[Peer]) -> (&'static str, String) {
    let versions = peers
        .iter()
        .filter(|peer| **peer != Peer::TidegateLog)
        .map(|peer| format!("{} {}", peer.name(), peer.version()));
    ("Proxies", versions.collect::<Vec<_>>().join(", "))
}

/// The lines as a list in Markdown.
pub(crate) fn markdown(lines: &[(&'static str, String)]) -> String {
    let lines = lines
        .iter()
        .map(|(what, value)| format!("- {what}: {value}\n"));
    lines.collect()
}

fn cpu() -> String {
    let text = file("/proc/cpuinfo");
    let models = text.lines().filter(|line| line.starts_with("model name"));
    let model = models
        .filter_map(|line| line.split_once(": "))
        .map(|(_, model)| model)
        .next();
    let count = text
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    format!("{} ({count} logical CPUs)", model.unwrap_or("unknown"))
}

/// The version alone; what follows a hyphen is the builder's own name for it.
fn kernel() -> String {
    let release = file("/proc/sys/kernel/osrelease");
    let version = release.trim().split('-').next().unwrap_or_default();
    format!("Linux {version}")
}

fn memory() -> String {
    let text = file("/proc/meminfo");
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or("unknown".to_owned(), |kib| {
        format!("{} GiB", kib.div_ceil(1 << 20))
    })
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        process::output(
            Command::new("git")
                .current_dir(crate::root())
                .args(arguments),
        )
    };
    let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|_| "unknown".to_owned());
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])
        .is_ok_and(|text| !text.trim().is_empty());
    let suffix = if changed {
        " with changes that are not committed"
    } else {
        ""
    };
    format!("{}{suffix}", commit.trim())
}

/// How Tidegate was started.
pub(super) fn command_line(site: &Site) -> String {
    let Ok(command) = site.command(Peer::Tidegate) else {
        return "unknown".to_owned();
    };
    let folder = site.folder().to_string_lossy();
    let words = command
        .get_args()
        .skip(3)
        .map(|word| word.to_string_lossy().replace(&*folder, "DIR"));
    format!("`tidegate {}`", words.collect::<Vec<_>>().join(" "))
}

fn file(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn said(program: &str, arguments: &[&str]) -> String {
    process::output(Command::new(program).args(arguments))
        .map_or("unknown".to_owned(), |text| text.trim().to_owned())
}
