//! `tidegate-testbed up|down|status`: a cluster to try things on. `cargo xtask testbed` runs it.
#![forbid(unsafe_code)]

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tidegate_testbed::{Options, Testbed, programs, remove_orphans};
use tidegate_testbed_inside::sweep::{self, Folder};

/// How long a testbed may take to come up once its programs are built, and to go.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a running testbed writes into its folder.
const RECORD: &str = "testbed.json";

/// A Kubernetes cluster of namespaces and processes on this machine.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    /// Where everything of the testbed is kept
    #[arg(long, global = true, default_value_os_t = env::temp_dir().join("tidegate-testbed"))]
    folder: PathBuf,

    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start it, in the background
    Up(Up),
    /// Remove it, and what is left of others whose owners are gone
    Down,
    /// Show its parts, nodes and pods
    Status,
    /// Be it, until a signal comes
    #[command(hide = true)]
    Serve(Up),
}

#[derive(Debug, clap::Args)]
struct Up {
    /// How many nodes it has
    #[arg(long, default_value_t = 3)]
    nodes: usize,

    /// The program of containers whose image is called tidegate
    #[arg(long)]
    tidegate: Option<PathBuf>,

    /// A kustomization to apply once it runs
    #[arg(long, value_name = "FOLDER")]
    manifests: Option<PathBuf>,
}

/// What is known of a running testbed.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    process: u32,
    name: String,
    kubeconfig: PathBuf,
    nodes: Vec<RecordedNode>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RecordedNode {
    name: String,
    address: std::net::Ipv4Addr,
}

fn main() -> ExitCode {
    let Cli { folder, task } = Cli::parse();
    let outcome = match task {
        Task::Up(args) => up(&folder, &args),
        Task::Down => down(&folder),
        Task::Status => status(&folder),
        Task::Serve(args) => serve(&folder, args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// A line for the person who asked. A closed pipe is no reason to stop.
fn say(line: impl std::fmt::Display) {
    _ = writeln!(io::stdout(), "{line}");
}

fn up(folder: &Path, args: &Up) -> Result<()> {
    ensure!(
        Record::read(folder).is_err(),
        "there is a testbed in {} already: take it down first, or name another --folder",
        folder.display()
    );
    // With what it says where it can be seen.
    programs::ensure()?;
    let log = log(folder);
    let out = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
    let mut serve = Command::new(env::current_exe()?);
    serve.arg("serve").arg("--folder").arg(folder);
    serve.arg("--nodes").arg(args.nodes.to_string());
    if let Some(program) = &args.tidegate {
        let program = program.canonicalize();
        serve
            .arg("--tidegate")
            .arg(program.context("cannot use --tidegate")?);
    }
    serve
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out);
    let mut serve = serve.process_group(0).spawn()?;
    let deadline = Instant::now() + PATIENCE;
    let record = loop {
        if let Ok(record) = Record::read(folder) {
            break record;
        }
        if serve.try_wait()?.is_some() || Instant::now() > deadline {
            _ = serve.kill();
            let said = fs::read_to_string(&log).unwrap_or_default();
            bail!("the testbed did not come up; it said:\n{}", said.trim());
        }
        sleep(Duration::from_millis(50));
    };
    if let Some(manifests) = &args.manifests {
        apply(&record, manifests)?;
    }
    for node in &record.nodes {
        say(format_args!("{}\t{}", node.name, node.address));
    }
    say(format_args!(
        "export KUBECONFIG={}",
        record.kubeconfig.display()
    ));
    Ok(())
}

fn apply(record: &Record, manifests: &Path) -> Result<()> {
    let mut kubectl = record.kubectl()?;
    let applied = kubectl
        .args(["apply", "--server-side", "-k"])
        .arg(manifests)
        .status()?;
    ensure!(
        applied.success(),
        "kubectl apply -k {} failed; see above. The testbed runs",
        manifests.display()
    );
    Ok(())
}

/// Becomes the testbed.
fn serve(folder: &Path, args: Up) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut terminate, mut interrupt) = runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        io::Result::Ok((
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ))
    })?;
    let testbed = Testbed::up(Options {
        nodes: args.nodes,
        folder: Some(folder.to_owned()),
        tidegate: args.tidegate,
        ..Options::default()
    })?;
    let nodes = testbed.nodes().iter().map(|node| RecordedNode {
        name: node.name.clone(),
        address: node.address,
    });
    let record = Record {
        process: std::process::id(),
        name: testbed.name().to_owned(),
        kubeconfig: testbed.kubeconfig(),
        nodes: nodes.collect(),
    };
    record.write(folder)?;
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    drop(testbed);
    Ok(())
}

fn down(folder: &Path) -> Result<()> {
    let found = Record::read(folder);
    if let Ok(record) = &found {
        record.end();
        sweep::sweep(&record.name, folder, Folder::Remove).map_err(anyhow::Error::msg)?;
        // There may be none.
        _ = fs::remove_file(log(folder));
        say(format_args!("removed the testbed in {}", folder.display()));
    }
    let orphans = remove_orphans()?;
    for orphan in &orphans {
        say(format_args!("removed {orphan}, whose owner was gone"));
    }
    if found.is_err() && orphans.is_empty() {
        say(format_args!("there is no testbed in {}", folder.display()));
    }
    Ok(())
}

fn status(folder: &Path) -> Result<()> {
    let record = Record::read(folder)
        .with_context(|| format!("there is no testbed in {}", folder.display()))?;
    let running: Vec<String> = sweep::processes(&record.name)
        .iter()
        .filter_map(|process| fs::read_to_string(format!("/proc/{process}/cmdline")).ok())
        .filter_map(|line| Some(line.split('\0').next()?.rsplit('/').next()?.to_owned()))
        .collect();
    for part in tidegate_testbed::Part::ALL {
        let runs = running.iter().any(|name| name == part.name());
        let state = if runs { "runs" } else { "does not run" };
        say(format_args!("{}\t{state}", part.name()));
    }
    say(format_args!(
        "export KUBECONFIG={}",
        record.kubeconfig.display()
    ));
    for what in ["nodes", "pods"] {
        let mut kubectl = record.kubectl()?;
        kubectl.args(["get", what, "--all-namespaces", "--output=wide"]);
        // It says itself what is wrong.
        kubectl.arg("--request-timeout=5s").status()?;
    }
    Ok(())
}

/// What the testbed says while it comes up. Its own folder has to be empty then.
fn log(folder: &Path) -> PathBuf {
    folder.with_extension("log")
}

impl Record {
    /// Of a testbed that runs.
    fn read(folder: &Path) -> Result<Self> {
        let text = fs::read_to_string(folder.join(RECORD))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Whole or not at all.
    fn write(&self, folder: &Path) -> Result<()> {
        let unfinished = folder.join(format!("{RECORD}.new"));
        fs::write(&unfinished, serde_json::to_string_pretty(self)?)?;
        fs::rename(unfinished, folder.join(RECORD))?;
        Ok(())
    }

    fn kubectl(&self) -> Result<Command> {
        let mut kubectl = Command::new(programs::kubectl()?);
        kubectl.env("KUBECONFIG", &self.kubeconfig);
        Ok(kubectl)
    }

    /// Asks the testbed to go and waits until it is gone.
    fn end(&self) {
        let process = i32::try_from(self.process).ok().and_then(Pid::from_raw);
        let Some(process) = process.filter(|_| self.is_alive()) else {
            return;
        };
        // It may have ended in between.
        _ = kill_process(process, Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while self.is_alive() && Instant::now() < deadline {
            sleep(Duration::from_millis(20));
        }
    }

    /// Whether its process is there and not another one that has its number now.
    fn is_alive(&self) -> bool {
        let line = fs::read_to_string(format!("/proc/{}/cmdline", self.process));
        line.is_ok_and(|line| line.contains("tidegate-testbed\0serve\0"))
    }
}
