//! `cargo xtask bench scale`: what grows with the number of routes and certificates, and what must not.
//!
//! Look-up and translation come from the benches of their crates. The rest is measured at a running Tidegate with a
//! folder of manifests: from its start until `/readyz` says ready, from the rename of a changed file until a request has
//! the new answer, and the memory that it holds then.

mod manifests;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::peers::ADMIN;
use super::running::Running;
use super::{backend, client, document, machine, report};
use crate::setup::{self, Need};
use crate::table::{Align, Table};
use crate::terminal::say;
use crate::test::figures;
use crate::{Verdict, build, process};
use manifests::{Certificates, Size};

const SIZES: [Size; 5] = [
    plain(1),
    plain(100),
    plain(1_000),
    plain(10_000),
    Size {
        hosts: 10_000,
        certificates: Certificates::ForEach,
    },
];

const fn plain(hosts: usize) -> Size {
    Size {
        hosts,
        certificates: Certificates::None,
    }
}

const HTTP: u16 = 8080;
/// Changes of which the median counts.
const CHANGES: usize = 9;
/// How long a start, or one change, may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// Until memory of the start is given back, and between two changes, which would else be put in force together.
const SETTLE: Duration = Duration::from_millis(1_500);

/// What was measured at a running Tidegate.
#[derive(Clone, Copy, Debug)]
struct Measured {
    boot: Duration,
    /// From a changed file to a changed answer.
    publish: Duration,
    /// CPU time of the process for one change, in milliseconds.
    cpu: f64,
    /// Resident memory in MiB after the start, and after all changes.
    resident: [f64; 2],
}

pub(super) fn run(page: &Path, tidegate: Option<&Path>) -> Result<Verdict> {
    setup::ensure(&[Need::Compiler])?;
    let program = build::release_or(tidegate)?;
    let mut figures = figures_of("tidegate-model", "lookup")?;
    figures.extend(figures_of("tidegate-controller", "incremental")?);
    let cache = manifests::cache()?;
    let mut table = Table::new([
        ("routes", Align::Right),
        ("certificates", Align::Right),
        ("look-up, hot, ns", Align::Right),
        ("look-up, any, ns", Align::Right),
        ("translate, µs", Align::Right),
        ("publish, ms", Align::Right),
        ("CPU of it, ms", Align::Right),
        ("RSS after start, MiB", Align::Right),
        ("RSS after changes, MiB", Align::Right),
        ("start, s", Align::Right),
    ]);
    for size in SIZES {
        say(format_args!(
            "{} routes, {} certificates",
            size.routes(),
            size.certificates()
        ));
        table.push(row(size, &figures, &measure(size, &program, &cache)?)?);
    }
    say(format_args!("\n{}", table.text()));
    let body = format!(
        "{}\n{}",
        machine::markdown(&machine::describe()),
        table.markdown()
    );
    document::replace(page, "scale", &body)?;
    say(format_args!("written to {}", page.display()));
    Ok(Verdict::Pass)
}

/// What a bench prints as figures, by their names.
fn figures_of(package: &str, bench: &str) -> Result<BTreeMap<String, String>> {
    let mut command = process::cargo();
    command.args(["bench", "--locked", "-p", package, "--bench", bench]);
    let shown = process::show(command.args(["--", "--figures"]))?;
    ensure!(shown.success, "the bench {bench} failed");
    let figures = figures::figures(&shown.output).into_iter();
    Ok(figures.map(|figure| (figure.name, figure.value)).collect())
}

fn row(
    size: Size,
    figures: &BTreeMap<String, String>,
    measured: &Measured,
) -> Result<[String; 10]> {
    let figure = |name: String| {
        let value = figures.get(&name).cloned();
        value.with_context(|| format!("no bench printed the figure `{name}`"))
    };
    let tls = match size.certificates {
        Certificates::None => "without",
        Certificates::ForEach => "with",
    };
    let [start, end] = measured.resident;
    Ok([
        size.routes().to_string(),
        size.certificates().to_string(),
        figure(format!("look-up hot {}", size.routes()))?,
        figure(format!("look-up any {}", size.routes()))?,
        figure(format!("translate {tls} TLS {}", size.hosts))?,
        format!("{:.0}", measured.publish.as_secs_f64() * 1e3),
        format!("{:.1}", measured.cpu),
        format!("{start:.1}"),
        format!("{end:.1}"),
        format!("{:.2}", measured.boot.as_secs_f64()),
    ])
}

fn measure(size: Size, program: &Path, cache: &Path) -> Result<Measured> {
    for port in [HTTP, ADMIN] {
        backend::ensure_free(port)?;
    }
    let folder = TempDir::with_prefix("tidegate-scale-")?;
    let manifests = folder.path().join("manifests");
    fs::create_dir(&manifests)?;
    size.write(&manifests, cache)?;
    let config = folder.path().join("settings.yaml");
    // A path that does not exist must be answered as such, not with a redirect to HTTPS.
    fs::write(&config, "sslRedirect: {mode: none}\n")?;
    let mut command = Command::new(program);
    process::as_own_instance(&mut command);
    command.args(["serve", "--workers=1", "--https=127.0.0.1:8443"]);
    command.arg(format!("--http=127.0.0.1:{HTTP}"));
    command.arg(format!("--admin=127.0.0.1:{ADMIN}"));
    command.arg("--config").arg(&config);
    command.arg("--manifests").arg(&manifests);
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN));
    let begun = Instant::now();
    let tidegate = Running::spawn("tidegate", &mut command, folder.path(), PATIENCE, || {
        client::is_ready(admin)
    })?;
    let boot = begun.elapsed();
    sleep(SETTLE);
    let after_start = tidegate.resident_mib();
    let before = tidegate.cpu_seconds();
    let mut times = Vec::new();
    for round in 1..=CHANGES {
        let number = round * 7919 % size.hosts;
        times.push(publish(size, &manifests, cache, number, round)?.as_secs_f64());
        sleep(SETTLE);
    }
    let spent = tidegate.cpu_seconds() - before;
    Ok(Measured {
        boot,
        publish: Duration::from_secs_f64(report::median(times)),
        cpu: 1e3 * spent / CHANGES as f64,
        resident: [after_start, tidegate.resident_mib()],
    })
}

/// Adds a path to a host's Ingress, and asks for it until it is there.
fn publish(
    size: Size,
    manifests: &Path,
    cache: &Path,
    number: usize,
    round: usize,
) -> Result<Duration> {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP));
    let mut client = client::plain(client::connect(server, Ipv4Addr::LOCALHOST)?);
    let (host, path) = (manifests::host(number), manifests::path(round));
    let mut exists = || -> Result<bool> { Ok(client.get(&host, &path)?.status != 404) };
    ensure!(!exists()?, "{host}{path} is served before it is written");
    let begun = Instant::now();
    size.put(manifests, cache, number, Some(round))?;
    while !exists()? {
        let waited = begun.elapsed();
        ensure!(
            waited < PATIENCE,
            "{host}{path} was not served after {waited:.0?}"
        );
        sleep(Duration::from_millis(1));
    }
    Ok(begun.elapsed())
}
