//! `cargo xtask fuzz`: random inputs that learn from coverage, for every parser and for the data plane as a whole.
//!
//! Targets are programs of the package `tidegate-fuzz`, linked with LLVM's libFuzzer. The stable compiler counts
//! coverage when LLVM is told to; the flags are those that cargo-fuzz passes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::Verdict;
use crate::metadata::Metadata;
use crate::process;
use crate::setup::{self, Need};
use crate::table::{Align, Table};
use crate::terminal::say;

mod corpus;
mod progress;

use progress::Progress;

/// The package, and the feature that has its targets built.
const PACKAGE: &str = "tidegate-fuzz";
const FEATURE: &str = "targets";

/// What has LLVM count coverage and note comparisons, and has the crates show the targets their parsers.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg",
    "fuzzing",
];

/// Seconds after which one input counts as a hang.
const HANG: u32 = 20;
/// Resident memory in MiB that is too much.
const MEMORY: u32 = 512;

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A target, or the seconds for each of them; every target when none is named
    #[arg(value_name = "TARGET")]
    target: Option<String>,

    /// How long a target runs
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,

    /// Name the targets and do nothing
    #[arg(long)]
    list: bool,

    /// Run the target on this input alone, such as one that it has failed on
    #[arg(
        long,
        value_name = "FILE",
        requires = "target",
        conflicts_with = "seconds"
    )]
    input: Option<PathBuf>,

    /// Add to the committed corpus what reaches code that it does not reach yet
    #[arg(long, requires = "target", conflicts_with_all = ["seconds", "input"])]
    keep: bool,
}

/// Seconds for each target when nothing else is said.
const SECONDS: u32 = 30;

pub(crate) fn run(args: &Args) -> Result<Verdict> {
    let all = targets()?;
    if args.list {
        for target in &all {
            say(target);
        }
        return Ok(Verdict::Pass);
    }
    let (named, seconds) = args.what()?;
    if let Some(name) = named {
        ensure!(
            all.iter().any(|target| target == name),
            "there is no target {name}; there are {}",
            all.join(", ")
        );
    }
    let chosen: Vec<String> = all
        .into_iter()
        .filter(|target| named.is_none_or(|name| name == target))
        .collect();
    setup::ensure(&[Need::Compiler, Need::CxxCompiler, Need::Cmake])?;
    let fuzzer = Fuzzer::build()?;
    match (&args.input, args.keep, named) {
        (Some(input), _, Some(name)) => fuzzer.reproduce(name, input),
        (None, true, Some(name)) => fuzzer.keep(name),
        _ => fuzzer.fuzz(&chosen, seconds, Start::WhereLastEnded),
    }
}

/// Every target for some seconds, from the committed corpora: a step of `cargo xtask test`.
pub(crate) fn briefly(seconds: u32) -> Result<Verdict> {
    Fuzzer::build()?.fuzz(&targets()?, seconds, Start::Afresh)
}

/// Clippy, which sees neither the targets nor what the data plane shows them when it looks at the rest.
pub(crate) fn clippy() -> Result<Verdict> {
    let mut command = cargo("clippy", &host()?);
    command.args(["--", "-D", "warnings"]);
    Ok(Verdict::of(process::show(&mut command)?.success))
}

impl Args {
    /// The target, if one is named, and the seconds.
    fn what(&self) -> Result<(Option<&str>, u32)> {
        let alone = self.target.as_deref().map(|word| (word, word.parse()));
        Ok(match (alone, self.seconds) {
            (Some((_, Ok(0))), _) => bail!("a target runs for one second at least"),
            (Some((_, Ok(seconds))), None) => (None, seconds),
            (Some((name, _)), seconds) => (Some(name), seconds.unwrap_or(SECONDS)),
            (None, seconds) => (None, seconds.unwrap_or(SECONDS)),
        })
    }
}

/// The names of the targets, sorted.
fn targets() -> Result<Vec<String>> {
    let metadata = Metadata::load()?;
    let package = metadata
        .members()
        .find(|package| package.name == PACKAGE)
        .with_context(|| format!("there is no crate {PACKAGE} in the workspace"))?;
    let programs = package.targets.iter().filter(|target| target.is_program());
    let mut names: Vec<String> = programs.map(|target| target.name.clone()).collect();
    names.sort();
    Ok(names)
}

/// What a run starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// The committed corpus and what earlier runs found.
    WhereLastEnded,
    /// The committed corpus.
    Afresh,
}

/// The built targets.
#[derive(Debug)]
struct Fuzzer {
    programs: PathBuf,
    /// Where corpora grow and failures are left.
    scratch: PathBuf,
}

/// A corpus that is committed.
fn committed(target: &str) -> PathBuf {
    crate::root().join("fuzz/corpus").join(target)
}

impl Fuzzer {
    fn build() -> Result<Self> {
        let metadata = Metadata::load()?;
        let host = host()?;
        if !process::show(&mut cargo("build", &host))?.success {
            bail!("the fuzz targets do not build; see above");
        }
        Ok(Self {
            programs: metadata.target_directory.join(host).join("fuzz"),
            scratch: metadata.target_directory.join("fuzz-findings"),
        })
    }

    /// Runs targets one after the other, whatever one of them finds.
    fn fuzz(&self, targets: &[String], seconds: u32, start: Start) -> Result<Verdict> {
        let mut table = Table::new([
            ("target", Align::Left),
            ("result", Align::Left),
            ("inputs", Align::Right),
            ("a second", Align::Right),
            ("coverage from", Align::Right),
            ("to", Align::Right),
            ("corpus from", Align::Right),
            ("to", Align::Right),
        ]);
        let mut verdict = Verdict::Pass;
        for target in targets {
            say(format_args!("fuzzing {target} for {seconds} s"));
            let progress = self.fuzz_one(target, seconds, start)?;
            if !progress.success {
                verdict = Verdict::Fail;
            }
            table.push(progress.cells(target));
        }
        say(format_args!("\n{}", table.text()));
        Ok(verdict)
    }

    fn fuzz_one(&self, target: &str, seconds: u32, start: Start) -> Result<Progress> {
        let afresh = tempfile::tempdir()?;
        let grown = match start {
            Start::WhereLastEnded => self.grown(target),
            Start::Afresh => afresh.path().to_owned(),
        };
        fs::create_dir_all(&grown)?;
        let failures = self.scratch.join("failures").join(target);
        fs::create_dir_all(&failures)?;
        let mut command = self.command(target);
        command
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", failures.display()))
            .arg(format!(
                "-dict={}",
                crate::root().join("fuzz/http.dict").display()
            ))
            .args([grown, committed(target)]);
        let progress = watch(&mut command)?;
        if !progress.success {
            let input = progress.failure.as_deref().unwrap_or("FILE");
            say(format_args!(
                "{target} FAILED. Again: cargo xtask fuzz {target} --input {input}"
            ));
        }
        Ok(progress)
    }

    /// Runs a target on one input.
    fn reproduce(&self, target: &str, input: &Path) -> Result<Verdict> {
        ensure!(input.is_file(), "there is no file {}", input.display());
        let input = input.canonicalize()?;
        let mut command = self.command(target);
        command.env("RUST_BACKTRACE", "1").arg(input);
        Ok(Verdict::of(process::show(&mut command)?.success))
    }

    /// Adds what was found to the committed corpus, as far as it reaches code that nothing there does.
    fn keep(&self, target: &str) -> Result<Verdict> {
        let (grown, committed) = (self.grown(target), committed(target));
        ensure!(
            grown.is_dir(),
            "{target} has found nothing yet: run it first"
        );
        fs::create_dir_all(&committed)?;
        // The fuzzer copies into the first corpus whatever is new in any way, which is too much to commit.
        let merged = tempfile::tempdir()?;
        for input in fs::read_dir(&committed)? {
            let input = input?;
            fs::copy(input.path(), merged.path().join(input.file_name()))?;
        }
        let record = tempfile::NamedTempFile::new()?;
        let mut command = self.command(target);
        command
            .arg("-merge=1")
            .arg(format!("-merge_control_file={}", record.path().display()))
            .args([merged.path(), &grown]);
        if !watch(&mut command)?.success {
            bail!("{target} failed on what it had found; run it again");
        }
        let count = corpus::add(&fs::read_to_string(record.path())?, &committed)?;
        say(format_args!("{} holds {count} inputs", committed.display()));
        Ok(Verdict::Pass)
    }

    fn grown(&self, target: &str) -> PathBuf {
        self.scratch.join("corpus").join(target)
    }

    fn command(&self, target: &str) -> Command {
        let mut command = Command::new(self.programs.join(target));
        command
            .current_dir(crate::root())
            .arg(format!("-timeout={HANG}"))
            .arg(format!("-rss_limit_mb={MEMORY}"));
        command
    }
}

/// Cargo at work on the targets as they are run.
fn cargo(work: &str, host: &str) -> Command {
    let mut command = process::cargo();
    // With a platform named, the flags are for what runs there and not for build scripts.
    command
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .args([work, "--locked", "--profile=fuzz", "--bins"])
        .args(["--package", PACKAGE, "--features", FEATURE])
        .args(["--target", host]);
    command
}

/// The platform that this compiler builds for.
fn host() -> Result<String> {
    let text = process::output(Command::new("rustc").arg("-vV"))?;
    let mut lines = text.lines();
    let host = lines.find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// Runs a fuzzer and follows what it says: figures are kept, what it says of a failure is passed on.
fn watch(command: &mut Command) -> Result<Progress> {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let mut progress = Progress::default();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            if !progress.note(&line) {
                say(format_args!("  {line}"));
            }
        }
    }
    let status = child.wait()?;
    if !status.success() {
        say(format_args!("  ended with {status}"));
    }
    progress.success = status.success();
    Ok(progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(target: Option<&str>, seconds: Option<u32>) -> Option<(Option<String>, u32)> {
        let args = Args {
            target: target.map(str::to_owned),
            seconds,
            list: false,
            input: None,
            keep: false,
        };
        let (target, seconds) = args.what().ok()?;
        Some((target.map(str::to_owned), seconds))
    }

    #[test]
    fn a_number_alone_is_the_seconds() {
        assert_eq!(what(None, None), Some((None, SECONDS)));
        assert_eq!(what(Some("5"), None), Some((None, 5)));
        assert_eq!(what(Some("0"), None), None);
        assert_eq!(what(Some("a"), None), Some((Some("a".to_owned()), SECONDS)));
        assert_eq!(what(Some("a"), Some(5)), Some((Some("a".to_owned()), 5)));
    }
}
